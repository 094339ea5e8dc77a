"""The `prfaas` command: composed of the commands of prfaas/cli/commands."""

import io
import os
import sys

import typer

from prfaas.cli.commands.failures import EXIT_USER_ERROR
from prfaas.cli.commands.fleets import demo, demo_model, up
from prfaas.cli.commands.keys import key
from prfaas.cli.commands.linking import link
from prfaas.cli.commands.operating import fleet
from prfaas.cli.commands.planning import plan, simulate
from prfaas.cli.commands.profiling import profile
from prfaas.cli.commands.serving import relay, serve
from prfaas.cli.commands.setting_up import certs, link_probe
from prfaas.cli.commands.version import version
from prfaas.cli.commands.watching import top

__all__ = ["EXIT_USER_ERROR", "app", "main"]

app = typer.Typer(
    name="prfaas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "LLM serving whose long prefills run in another datacenter and stream their KV cache back over TCP.\n\n"
        "Try [bold]prfaas demo[/bold] first: it runs a two-datacenter fleet on this machine and questions it."
    ),
)
for command in (serve, relay, up, top, demo, plan, simulate, profile, link_probe, certs, key, demo_model, version):
    app.command()(command)
app.add_typer(fleet, name="fleet")
app.add_typer(link, name="link")


def main() -> None:
    """Console script."""
    # gRPC lets `no_proxy` overrule a channel's own proxy without a word, and it often names loopback: a link's relay or
    # proxy would be bypassed. This variable takes its place, and names nothing.
    os.environ["no_grpc_proxy"] = "none.invalid"  # noqa: SIM112 - gRPC reads it in lower case
    # Its C core writes to stderr what our own log lines say with names and reasons.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # A terminal that cannot show an arrow shows a question mark, rather than end the program.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="prfaas")

"""Commands for what a fleet stands on: link-probe, certs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prfaas.cli.commands.failures import EXIT_USER_ERROR, one_line_errors
from prfaas.cli.commands.options import JsonOption
from prfaas.core.errors import ConfigError


def link_probe(
    to: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Data port of a running instance (GET /fleet names it).")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Fleet file: certificates, and the model.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --config: the instance of the file that this one asks as.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Instead of --config: a fleet without TLS.")] = False,
    proxy: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="HTTP CONNECT proxy on the way.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Length of each measurement.")] = 5.0,
    streams: Annotated[str, typer.Option(help="Numbers of connections to try.")] = "1,2,4,8,16",
    json_output: JsonOption = False,
) -> None:
    """Measure what a path to an instance carries, and say what to configure for it.

    Fills the path with frames that the receiver throws away: run it before there is traffic, not beside it.

    [dim]prfaas link-probe --to 10.0.0.7:7000 --config fleet.yaml --name east-prefill-0[/dim]
    """
    from prfaas.cli.link_probe import ProbeOptions, run_link_probe

    with one_line_errors():
        run_link_probe(
            ProbeOptions.parsed(to, config, name, proxy, seconds, streams, plain=plain), json_output=json_output
        )


def certs(
    out: Annotated[Path, typer.Option(help="Folder for them; an authority that is there already is used.")] = Path(
        "certs"
    ),
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Fleet file: one certificate for each of its processes.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Instead: one for NAME.CLUSTER, e.g. west-decode-7.west. Repeatable.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long they last.")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Replace certificates that are there already.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Make none; show how long those of --config last.")] = False,
) -> None:
    """Make certificates for mutual TLS from an authority of their own, or check those of a fleet file.

    [dim]prfaas certs --config fleet.yaml --out certs[/dim]
    [dim]prfaas certs --out certs --name west-decode-7.west[/dim]
    [dim]prfaas certs --check --config fleet.yaml[/dim]
    """
    from prfaas.cli import certs as made
    from prfaas.config.load import load

    with one_line_errors():
        if config is None and (check or not name):
            raise ConfigError("give --config FILE" + ("" if check else ", or --name NAME.CLUSTER"))
        if check:
            assert config is not None
            if not made.check(load(config), Console()):
                raise typer.Exit(EXIT_USER_ERROR)
            return
        made.make(out, made.requested(config, name or []), days, force=force, console=Console())

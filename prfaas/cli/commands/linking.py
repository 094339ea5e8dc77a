"""Commands for links that a relay emulates: link show, link set."""

from typing import Annotated

import typer
from rich.console import Console

from prfaas.cli.commands.failures import one_line_errors
from prfaas.cli.commands.options import ConfigOption, JsonOption, SetOption

link = typer.Typer(help="Look at links that a relay emulates, and change them in flight.", no_args_is_help=True)


@link.command("show")
def show_links(
    config: ConfigOption,
    name: Annotated[str | None, typer.Argument(help="Of one link, e.g. east--west; default: all.")] = None,
    json_output: JsonOption = False,
    overrides: SetOption = None,
) -> None:
    """Show links as their relays have them now.

    [dim]prfaas link show --config fleet.yaml[/dim]
    """
    import msgspec

    from prfaas.cli.link_relay import read, relayed, show
    from prfaas.config.load import load

    with one_line_errors():
        rows = [read(section) for section in relayed(load(config, overrides or []), name)]
    if json_output:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        show(rows, Console())


@link.command("set")
def set_link(
    name: Annotated[str, typer.Argument(help="Of the link, e.g. east--west.")],
    config: ConfigOption,
    gbit_s: Annotated[float | None, typer.Option("--gbit-s", help="Rate of each direction.")] = None,
    rtt_ms: Annotated[float | None, typer.Option("--rtt-ms", help="Round trip.")] = None,
    jitter_ms: Annotated[float | None, typer.Option("--jitter-ms", help="Added to each way, up to so much.")] = None,
    up: Annotated[
        bool | None, typer.Option("--up/--down", help="Down: connections are reset, and new ones refused.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Change a link in flight; what is not named stays. The fleet file is left as it is.

    [dim]prfaas link set east--west --gbit-s 0.1 --config fleet.yaml[/dim]
    """
    from prfaas.cli.link_relay import change, relayed, show
    from prfaas.config.load import load

    asked = {"gbit_s": gbit_s, "rtt_ms": rtt_ms, "jitter_ms": jitter_ms, "up": up}
    with one_line_errors():
        (section,) = relayed(load(config, overrides or []), name)
        row = change(section, {key: value for key, value in asked.items() if value is not None})
    show([row], Console())

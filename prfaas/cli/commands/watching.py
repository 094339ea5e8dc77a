"""Commands that watch a running fleet: top."""

from typing import Annotated

import typer
from rich.console import Console

from prfaas.cli.commands.failures import one_line_errors


def top(
    url: Annotated[str, typer.Option(help="Where the router answers HTTP.")] = "http://127.0.0.1:8000",
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
) -> None:
    """Watch a running fleet in the terminal: instances, links, threshold and why, placements. Ctrl-C ends it.

    [dim]prfaas top --url http://router:8000[/dim]
    """
    from prfaas.cli.top import run_top

    with one_line_errors():
        run_top(url if "://" in url else f"http://{url}", Console(), once=once)

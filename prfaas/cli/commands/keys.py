"""The command that makes an API key: key."""

from typing import Annotated

import typer
from rich.console import Console

from prfaas.cli.commands.failures import one_line_errors
from prfaas.cli.commands.options import JsonOption


def key(
    name: Annotated[str, typer.Argument(help="Whose it is: in metrics, logs and answers.")],
    batch: Annotated[bool, typer.Option("--batch", help="Its requests are of class batch.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Make an API key: print it, this once, and what belongs into the fleet file.

    [dim]prfaas key alice[/dim]
    """
    from prfaas.cli.api_key import as_json, as_text, new_key

    with one_line_errors():
        made = new_key(name, "batch" if batch else "interactive")
        Console(soft_wrap=True).print(as_json(made) if json_output else as_text(made), highlight=False, markup=False)

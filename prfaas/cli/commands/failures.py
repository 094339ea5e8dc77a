"""How commands end when something expected goes wrong. Knows no command."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from prfaas.cli.supervised import Supervisor
from prfaas.core.errors import PrfaasError

EXIT_USER_ERROR = 2
ALONE = Supervisor(None)
"""Of a command that a person started."""
errors = Console(stderr=True)


@contextmanager
def one_line_errors(supervisor: Supervisor = ALONE) -> Iterator[None]:
    """Expected failures leave as one line (or one per fault) on stderr and exit code 2."""
    try:
        yield
    except PrfaasError as error:
        supervisor.failed(str(error))
        if supervisor.fd is None:  # a parent says it, and says it once
            say(error)
        raise typer.Exit(EXIT_USER_ERROR) from None


def say(error: PrfaasError) -> None:
    """One line on stderr."""
    errors.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)

"""Commands for a fleet that runs: fleet show, fleet set-role."""

from enum import StrEnum
from typing import Annotated, Literal

import typer
from rich.console import Console

from prfaas.cli.commands.failures import one_line_errors, say
from prfaas.cli.commands.options import ConfigOption, JsonOption, SetOption
from prfaas.cli.commands.run import run
from prfaas.core.errors import PeerLostError, UnavailableError

EXIT_REFUSED = 1

fleet = typer.Typer(help="Look at a running fleet, and change it.", no_args_is_help=True)
HttpOption = Annotated[
    str | None, typer.Option("--http", metavar="HOST:PORT", help="Where the router answers; default: router.http.")
]


class FleetRole(StrEnum):
    """What an instance can become."""

    PREFILL = "prefill"
    DECODE = "decode"


ROLES: dict[FleetRole, Literal["prefill", "decode"]] = {FleetRole.PREFILL: "prefill", FleetRole.DECODE: "decode"}


@fleet.command("show")
def show_fleet(
    config: ConfigOption, http: HttpOption = None, json_output: JsonOption = False, overrides: SetOption = None
) -> None:
    """Show the instances that a router knows, and how they are.

    [dim]prfaas fleet show --config fleet.yaml[/dim]
    """
    import msgspec

    from prfaas.cli.fleet_roles import FleetStatus, show
    from prfaas.config.load import load

    with one_line_errors():
        loaded = load(config, overrides or [])
        reply = (FleetStatus(http) if http else FleetStatus.of(loaded)).read()
    if json_output:
        typer.echo(msgspec.json.format(msgspec.json.encode(reply)).decode())
    else:
        show(reply, Console())


@fleet.command("set-role")
def set_role(
    instance: Annotated[str, typer.Argument(help="Name of the instance.")],
    role: Annotated[FleetRole, typer.Argument(help="In which it is to serve.")],
    config: ConfigOption,
    http: HttpOption = None,
    overrides: SetOption = None,
) -> None:
    """Have an instance end what it does and serve in another role; returns when it does, or says why it does not.

    Asks the router with the router's certificate. What is cached stays; no request is lost.

    [dim]prfaas fleet set-role west-prefill-0 decode --config fleet.yaml[/dim]
    """
    from prfaas.cli.fleet_roles import FleetStatus
    from prfaas.cli.fleet_roles import set_role as change
    from prfaas.config.load import load

    console = Console(stderr=True)
    with one_line_errors():
        loaded = load(config, overrides or [])
        status = FleetStatus(http) if http else FleetStatus.of(loaded)
        try:
            with console.status(f"asking for {instance} to serve as {role.value}") as line:
                run(change(loaded, instance, ROLES[role], status, line.update))
        except (UnavailableError, PeerLostError) as error:
            say(error)
            raise typer.Exit(EXIT_REFUSED) from None
    console.print(f"{instance} serves as {role.value}", highlight=False, markup=False)

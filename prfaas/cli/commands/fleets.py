"""Commands that run a whole fleet on this machine: up, demo; and write the model of the demo."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prfaas.cli.commands.failures import one_line_errors
from prfaas.cli.commands.options import JsonOption, LogOption, SetOption
from prfaas.cli.commands.run import run
from prfaas.core.errors import ConfigError
from prfaas.telemetry import logs


def up(
    file: Annotated[Path, typer.Argument(help="Fleet file, e.g. configs/demo.yaml.")],
    overrides: SetOption = None,
    log_level: LogOption = "info",
) -> None:
    """Run a whole fleet on this machine, in the foreground; Ctrl-C drains and stops it.

    [dim]prfaas up configs/demo.yaml --set links.0.gbit_s=0.2[/dim]
    """
    from prfaas.cli.up import run_fleet
    from prfaas.config.load import load

    with one_line_errors():
        logs.set_up("up", log_level)
        fleet = load(file, overrides or [])
        code = run(run_fleet(fleet, file, tuple(overrides or []), log_level))
    raise typer.Exit(code)


def demo(
    json_output: JsonOption = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Send every prompt both ways, prefilled locally and remotely, and compare.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the fleet up afterwards, with its live page, until Ctrl-C.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Fleet file; default: the demo's own.")] = None,
    overrides: SetOption = None,
) -> None:
    """Run a two-datacenter fleet here, send it prompts through its OpenAI endpoint, show what happened, stop it.

    Then the link between the datacenters gets slow, and the threshold and the placements follow.

    Writes a small model with random weights the first time: the text it writes means nothing, all else is real.
    """
    with one_line_errors():
        try:
            from prfaas.cli.demo import run_demo
        except ModuleNotFoundError as error:
            if error.name != "openai":
                raise
            raise ConfigError("the demo is a client too, and needs one: pip install 'prfaas[demo]'") from None
        code = run(run_demo(config, tuple(overrides or []), verify=verify, json_output=json_output, keep=keep))
    raise typer.Exit(code)


def demo_model(
    directory: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
) -> None:
    """Write the demo's model: a small Kimi Linear checkpoint with random weights, in Hugging Face form."""
    from prfaas.models.demo_model import write_demo_model

    with one_line_errors():
        if directory.exists():
            raise ConfigError(f"{directory} exists; choose a directory that does not")
        write_demo_model(directory, seed)
    Console().print(f"wrote {directory}")

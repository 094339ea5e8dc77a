"""Commands that run a process of a fleet: serve, relay."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from prfaas.cli.commands.failures import one_line_errors
from prfaas.cli.commands.options import DTYPES, ConfigOption, DTypeChoice, LogOption, SetOption, SupervisorOption
from prfaas.cli.commands.run import run
from prfaas.cli.supervised import Supervisor
from prfaas.core.errors import ConfigError
from prfaas.telemetry import logs


class Role(StrEnum):
    """What a process is in the fleet."""

    ROUTER = "router"
    PREFILL = "prefill"
    DECODE = "decode"


class Engine(StrEnum):
    """What an instance does for a step."""

    COMPUTED = "computed"
    EMULATED = "emulated"


INSTANCE_ROLES: dict[Role, Literal["prefill", "decode"]] = {Role.PREFILL: "prefill", Role.DECODE: "decode"}


def serve(
    role: Annotated[Role, typer.Option(help="What this process is in the fleet.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Fleet file, e.g. configs/demo.yaml.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Instead of a fleet file: serve this Hugging Face directory alone, router included."),
    ] = None,
    http: Annotated[str, typer.Option(help="With --model: where clients connect.")] = "127.0.0.1:8000",
    dtype: Annotated[
        DTypeChoice, typer.Option(help="With --model: auto takes the checkpoint's bfloat16 if the processor has it.")
    ] = DTypeChoice.AUTO,
    cluster: Annotated[str | None, typer.Option(help="The cluster that this instance joins.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Instance name; one that the file does not list joins with default settings.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="With --role router: processes that share its HTTP port.")
    ] = None,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
    engine: Annotated[
        Engine, typer.Option(help="emulated: compute nothing, and take the time that --profile says.")
    ] = Engine.COMPUTED,
    profile: Annotated[Path | None, typer.Option(help="With --engine emulated: what its steps take.")] = None,
    time_scale: Annotated[float, typer.Option(help="So many of the profile's seconds pass in one.")] = 1.0,
    kv_scale: Annotated[float, typer.Option(help="Share of the profile's bytes that KV has.")] = 1.0,
    overrides: SetOption = None,
    log_level: LogOption = "info",
    supervisor_fd: SupervisorOption = None,
) -> None:
    """Run one process of a fleet: the [bold]router[/bold], or a [bold]prefill[/bold] or [bold]decode[/bold] instance.

    Instances find the router at router.control and register; SIGTERM lets running requests end first.

    [dim]prfaas serve --role decode --model ./Qwen3-Next-80B-A3B[/dim]
    [dim]prfaas serve --role router --config fleet.yaml --workers 4[/dim]
    [dim]prfaas serve --role decode --config fleet.yaml --cluster west --name west-decode-0[/dim]
    [dim]prfaas serve --role decode --model ./Qwen3-Next-80B-A3B --engine emulated --profile h20.yaml[/dim]
    """
    from prfaas.cli import serve as roles
    from prfaas.config.load import load

    supervisor = Supervisor(supervisor_fd)
    with one_line_errors(supervisor):
        logs.set_up(name or (role.value if worker is None else f"router/{worker}"), log_level)
        emulated = emulated_overrides(engine, profile, time_scale, kv_scale)
        if model is not None:
            _check_standalone(role, config, cluster, name)
            raise typer.Exit(_serve_alone(model, http, dtype, (*emulated, *(overrides or [])), log_level))
        if config is None:
            raise ConfigError("give --config FILE, or --role decode --model DIR to serve one model without a file")
        chosen = (*emulated, *(overrides or ()), *(() if workers is None else (f"router.workers={workers}",)))
        fleet = roles.with_engine(load(config, chosen), name, emulated=bool(emulated))
        if role is Role.ROUTER:
            if cluster or name:
                raise ConfigError(
                    "--cluster and --name are for instances; a router is described by router: in the file"
                )
            if fleet.router.workers > 1:
                run(roles.run(lambda: roles.workers(fleet, config, chosen, log_level), supervisor))
                return
            run(roles.run(lambda: roles.router(fleet), supervisor), uvloop=True)
        else:
            if workers is not None:
                raise ConfigError("--workers is for --role router; an instance is one process")
            run(roles.run(lambda: roles.instance(fleet, INSTANCE_ROLES[role], cluster, name), supervisor))


def emulated_overrides(engine: Engine, profile: Path | None, time_scale: float, kv_scale: float) -> tuple[str, ...]:
    """What `--set` would say. Raises ConfigError for options that do not go together."""
    if engine is Engine.COMPUTED:
        if profile is not None or (time_scale, kv_scale) != (1.0, 1.0):
            raise ConfigError("--profile, --time-scale and --kv-scale are for --engine emulated")
        return ()
    if profile is None:
        raise ConfigError("--engine emulated needs --profile FILE, e.g. configs/profiles/paper-1t-h20.yaml")
    values = {"profile": profile.resolve(), "time_scale": time_scale, "kv_scale": kv_scale}
    return tuple(f"engine.emulated.{key}={value}" for key, value in values.items())


def _check_standalone(role: Role, config: Path | None, cluster: str | None, name: str | None) -> None:
    if role is not Role.DECODE or config or cluster or name:
        raise ConfigError(
            "--model serves one model alone: use it with --role decode, without --config/--cluster/--name"
        )


def _serve_alone(model: Path, http: str, dtype: DTypeChoice, overrides: tuple[str, ...], log_level: str) -> int:
    from prfaas.cli.standalone import fleet_file
    from prfaas.cli.up import run_fleet

    chosen = None if dtype is DTypeChoice.AUTO else DTYPES[dtype]
    with fleet_file(model, http, chosen, overrides) as (path, fleet):
        code: int = run(run_fleet(fleet, path, overrides, log_level))
    return code


def relay(
    config: ConfigOption,
    link: Annotated[str, typer.Option(help="Name of the link: both clusters joined by two dashes, e.g. east--west.")],
    overrides: SetOption = None,
    log_level: LogOption = "info",
    supervisor_fd: SupervisorOption = None,
) -> None:
    """Run the relay that emulates one WAN link of a fleet file (rate, delay, jitter, lost connections)."""
    from prfaas.cli import serve as roles
    from prfaas.config.load import load

    supervisor = Supervisor(supervisor_fd)
    with one_line_errors(supervisor):
        logs.set_up(f"link {link}", log_level)
        fleet = load(config, overrides or [])
        run(roles.run(lambda: roles.relay(fleet, link), supervisor), uvloop=True)

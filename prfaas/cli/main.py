"""The `prfaas` command: parses, composes, and turns every expected failure into one line and exit code 2."""

import asyncio
import io
import os
import platform
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from prfaas import __version__
from prfaas.cli import serve as roles
from prfaas.cli.supervised import Supervisor
from prfaas.config import sections as config_sections
from prfaas.config.load import load
from prfaas.core.errors import ConfigError, PrfaasError
from prfaas.core.shape import DType
from prfaas.telemetry import logs

EXIT_USER_ERROR = 2

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
errors = Console(stderr=True)


class Role(StrEnum):
    """What a process is in the fleet."""

    ROUTER = "router"
    PREFILL = "prefill"
    DECODE = "decode"


class DTypeChoice(StrEnum):
    """What a model that is served alone computes in."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


DTYPES: dict[DTypeChoice, DType] = {DTypeChoice.BFLOAT16: "bfloat16", DTypeChoice.FLOAT32: "float32"}
INSTANCE_ROLES: dict[Role, config_sections.Role] = {Role.PREFILL: "prefill", Role.DECODE: "decode"}

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Fleet file, e.g. configs/demo.yaml.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Overrides one key, e.g. router.threshold_tokens=2048. Repeatable."
    ),
]
LogOption = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
SupervisorOption = Annotated[int | None, typer.Option("--supervisor-fd", hidden=True)]


@app.command()
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
    overrides: SetOption = None,
    log_level: LogOption = "info",
    supervisor_fd: SupervisorOption = None,
) -> None:
    """Run one process of a fleet: the [bold]router[/bold], or a [bold]prefill[/bold] or [bold]decode[/bold] instance.

    Instances find the router at router.control and register; SIGTERM lets running requests end first.

    [dim]prfaas serve --role decode --model ./Qwen3-Next-80B-A3B[/dim]
    [dim]prfaas serve --role router --config fleet.yaml[/dim]
    [dim]prfaas serve --role decode --config fleet.yaml --cluster west --name west-decode-0[/dim]
    """
    supervisor = Supervisor(supervisor_fd)
    with _one_line_errors(supervisor):
        logs.set_up(name or role.value, log_level)
        if model is not None:
            _check_standalone(role, config, cluster, name)
            raise typer.Exit(_serve_alone(model, http, dtype, tuple(overrides or []), log_level))
        if config is None:
            raise ConfigError("give --config FILE, or --role decode --model DIR to serve one model without a file")
        fleet = load(config, overrides or [])
        if role is Role.ROUTER:
            if cluster or name:
                raise ConfigError(
                    "--cluster and --name are for instances; a router is described by router: in the file"
                )
            _run(roles.run(lambda: roles.router(fleet), supervisor), uvloop=True)
        else:
            _run(roles.run(lambda: roles.instance(fleet, INSTANCE_ROLES[role], cluster, name), supervisor))


def _check_standalone(role: Role, config: Path | None, cluster: str | None, name: str | None) -> None:
    if role is not Role.DECODE or config or cluster or name:
        raise ConfigError(
            "--model serves one model alone: use it with --role decode, without --config/--cluster/--name"
        )


def _serve_alone(model: Path, http: str, dtype: "DTypeChoice", overrides: tuple[str, ...], log_level: str) -> int:
    from prfaas.cli.standalone import fleet_file
    from prfaas.cli.up import run_fleet

    chosen = None if dtype is DTypeChoice.AUTO else DTYPES[dtype]
    with fleet_file(model, http, chosen, overrides) as (path, fleet):
        code: int = _run(run_fleet(fleet, path, overrides, log_level))
    return code


@app.command()
def relay(
    config: ConfigOption,
    link: Annotated[str, typer.Option(help="Name of the link: both clusters joined by two dashes, e.g. east--west.")],
    overrides: SetOption = None,
    log_level: LogOption = "info",
    supervisor_fd: SupervisorOption = None,
) -> None:
    """Run the relay that emulates one WAN link of a fleet file (rate, delay, jitter, lost connections)."""
    supervisor = Supervisor(supervisor_fd)
    with _one_line_errors(supervisor):
        logs.set_up(f"link {link}", log_level)
        fleet = load(config, overrides or [])
        _run(roles.run(lambda: roles.relay(fleet, link), supervisor), uvloop=True)


@app.command()
def up(
    file: Annotated[Path, typer.Argument(help="Fleet file, e.g. configs/demo.yaml.")],
    overrides: SetOption = None,
    log_level: LogOption = "info",
) -> None:
    """Run a whole fleet on this machine, in the foreground; Ctrl-C drains and stops it.

    [dim]prfaas up configs/demo.yaml --set links.0.gbit_s=0.2[/dim]
    """
    from prfaas.cli.up import run_fleet

    with _one_line_errors(Supervisor(None)):
        logs.set_up("up", log_level)
        fleet = load(file, overrides or [])
        code = _run(run_fleet(fleet, file, tuple(overrides or []), log_level))
    raise typer.Exit(code)


@app.command()
def demo(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Send every prompt both ways, prefilled locally and remotely, and compare.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Fleet file; default: the demo's own.")] = None,
    overrides: SetOption = None,
) -> None:
    """Run a two-datacenter fleet here, send it prompts through its OpenAI endpoint, show what happened, stop it.

    Writes a small model with random weights the first time: the text it writes means nothing, all else is real.
    """
    with _one_line_errors(Supervisor(None)):
        try:
            from prfaas.cli.demo import run_demo
        except ModuleNotFoundError as error:
            if error.name != "openai":
                raise
            raise ConfigError("the demo is a client too, and needs one: pip install 'prfaas[demo]'") from None
        code = _run(run_demo(config, tuple(overrides or []), verify=verify, json_output=json_output))
    raise typer.Exit(code)


@app.command("plan")
def plan_deployment(
    config: Annotated[Path, typer.Argument(help="Deployment file, e.g. configs/case-study.yaml.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with figures too.")] = None,
    overrides: SetOption = None,
) -> None:
    """Work out what a deployment can do: threshold, roles, throughput, waiting, cost; and whether offloading pays.

    [dim]prfaas plan configs/case-study.yaml --set links.0.gbit_s=10 --html plan.html[/dim]
    """
    from prfaas.cli.plan import run_plan

    with _one_line_errors(Supervisor(None)):
        run_plan(config, tuple(overrides or []), json_output=json_output, html=html)


@app.command("demo-model")
def demo_model(
    directory: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
) -> None:
    """Write the demo's model: a small Kimi Linear checkpoint with random weights, in Hugging Face form."""
    from prfaas.models.demo_model import write_demo_model

    with _one_line_errors(Supervisor(None)):
        if directory.exists():
            raise ConfigError(f"{directory} exists; choose a directory that does not")
        write_demo_model(directory, seed)
    Console().print(f"wrote {directory}")


@app.command("link-probe")
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
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure what a path to an instance carries, and say what to configure for it.

    Fills the path with frames that the receiver throws away: run it before there is traffic, not beside it.

    [dim]prfaas link-probe --to 10.0.0.7:7000 --config fleet.yaml --name east-prefill-0[/dim]
    """
    from prfaas.cli.link_probe import ProbeOptions, run_link_probe

    with _one_line_errors(Supervisor(None)):
        run_link_probe(
            ProbeOptions.parsed(to, config, name, proxy, seconds, streams, plain=plain), json_output=json_output
        )


@app.command()
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

    with _one_line_errors(Supervisor(None)):
        if config is None and (check or not name):
            raise ConfigError("give --config FILE" + ("" if check else ", or --name NAME.CLUSTER"))
        if check:
            assert config is not None
            if not made.check(load(config), Console()):
                raise typer.Exit(EXIT_USER_ERROR)
            return
        made.make(out, made.requested(config, name or []), days, force=force, console=Console())


@app.command()
def simulate(
    config: Annotated[Path, typer.Argument(help="Deployment file, e.g. configs/case-study.yaml.")],
    trace: Annotated[
        Path | None, typer.Option(help="Instead of the file's workload: Mooncake JSON lines, or Azure CSV.")
    ] = None,
    workload: Annotated[
        Literal["lognormal", "fixed", "agentic"] | None,
        typer.Option(help="Instead of the file's, unless it is of this kind."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Repeatable; default: all that a router can follow. Also: oracle."),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Of each policy.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same requests and the same figures.")] = 0,
    fidelity: Annotated[
        Literal["fluid", "step"],
        typer.Option(help="fluid: from event to event; step: the real scheduler, step by step."),
    ] = "fluid",
    rate: Annotated[
        float | None,
        typer.Option(metavar="REQ/S", min=1e-6, help="Of independent requests; default: what the file says."),
    ] = None,
    overrides: SetOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots, too.")] = None,
) -> None:
    """Play policies against each other on a deployment, with the router's own policy code.

    [dim]prfaas simulate configs/case-study.yaml --html case-study.html[/dim]
    [dim]prfaas simulate configs/what-if/outage.yaml --policy prfaas --policy local_only[/dim]
    """
    from prfaas.cli.simulate import DEFAULT_POLICIES, SimulateOptions, run_simulate

    with _one_line_errors(Supervisor(None)):
        run_simulate(
            SimulateOptions(
                config=config,
                trace=trace,
                workload=workload,
                policies=tuple(policy or DEFAULT_POLICIES),
                requests=requests,
                seed=seed,
                fidelity=fidelity,
                rate_req_s=rate,
                overrides=tuple(overrides or []),
                json_output=json_output,
                html=html,
            )
        )


@app.command()
def profile(
    model: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Model directory; with --gpu a config.json or a published model will do."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: stdout.")] = None,
    dtype: Annotated[DTypeChoice | None, typer.Option(help="To measure in.")] = None,
    lengths: Annotated[str | None, typer.Option(help="Prompts to measure, in tokens; default: 256,1024,4096.")] = None,
    batches: Annotated[str | None, typer.Option(help="Decode batches to measure; default: 1,4,8.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, max=100, help="Of each prompt; default: 3.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of the engine that is measured, on a CPU; default: all cores.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Instead of measuring: compute for H200, H20, H100, ...")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, max=1024, help="With --gpu: of an instance; default: 8.")] = None,
    efficiency: Annotated[
        float | None, typer.Option(min=0.001, max=1, help="With --gpu: share of the peak at which prompts compute.")
    ] = None,
    overhead: Annotated[
        float | None, typer.Option(min=0, max=60, help="With --gpu: seconds of a prompt whatever its length.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option(min=0.1, max=60000, help="With --gpu: what a decode step may take; default: 50.")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="Write the profiles of all published models and known GPUs to this folder.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Write a profile file: what an instance takes for prompts and decode steps, measured here or computed.

    [dim]prfaas profile --model ./Kimi-Linear-48B-A3B --out kimi-here.yaml[/dim]
    [dim]prfaas profile --model Qwen3.5-397B-A17B --gpu H200 --gpus 16 --out qwen.yaml[/dim]
    """
    from prfaas.cli.profile import ProfileOptions, run_profile

    chosen = DTYPES.get(dtype) if dtype else None
    with _one_line_errors(Supervisor(None)):
        logs.set_up("profile", "warning")
        options = ProfileOptions(
            model, catalogue, out, chosen, lengths, batches, repeats, threads, gpu, gpus, efficiency, overhead, tpot_ms
        )
        run_profile(options, json_output=json_output)


@app.command()
def version() -> None:
    """Print the versions of prfaas and of what decides its results."""
    found = [f"prfaas {__version__}", f"python {platform.python_version()}"]
    for package in ("torch", "triton", "grpcio"):
        try:
            found.append(f"{package} {package_version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    Console().print("\n".join(found), highlight=False)


@contextmanager
def _one_line_errors(supervisor: Supervisor) -> Iterator[None]:
    """Expected failures leave as one line (or one per fault) on stderr and exit code 2."""
    try:
        yield
    except PrfaasError as error:
        supervisor.failed(str(error))
        if supervisor.fd is None:  # a parent says it, and says it once
            errors.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(EXIT_USER_ERROR) from None


def _run(main: Coroutine[Any, Any, Any], *, uvloop: bool = False) -> Any:
    if uvloop:
        from uvloop import new_event_loop

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(main)
    return asyncio.run(main)


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

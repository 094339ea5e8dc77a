"""`prfaas simulate`: plays policies against each other on one deployment and one workload."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from prfaas.config.deployment import AgenticSection, DeploymentFile, TraceSection
from prfaas.config.load_deployment import load_deployment
from prfaas.config.sections import PolicyName
from prfaas.core.errors import ConfigError
from prfaas.planner.plan.fleet import fleet_of
from prfaas.planner.plan.forecast import best, planned_req_s
from prfaas.planner.simulate.outcome import Fidelity, Outcome
from prfaas.planner.simulate.report import report
from prfaas.planner.simulate.report_tables import show
from prfaas.planner.simulate.report_words import BOUND
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.workloads.build import build_workload

WorkloadKind = Literal["lognormal", "fixed", "agentic"]
FIRST: PolicyName = "prfaas"
DEFAULT_POLICIES: tuple[str, ...] = (FIRST, *(name for name in get_args(PolicyName) if name != FIRST))
POLICIES = (*DEFAULT_POLICIES, BOUND)
INPUTS: dict[WorkloadKind, dict[str, Any]] = {
    "lognormal": {"mu": 9.9, "sigma": 1.0, "min_tokens": 128, "max_tokens": 131_072},
    "fixed": {"tokens": 27_000},
    "agentic": {"sessions": 64},
}
"""What --workload means where the file describes another kind."""

FILE_COLUMNS = 100
"""Of tables that go to a file rather than to a terminal."""


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """The command's options, as they were given."""

    config: Path
    trace: Path | None = None
    workload: WorkloadKind | None = None
    policies: tuple[str, ...] = DEFAULT_POLICIES
    requests: int = 10_000
    seed: int = 0
    fidelity: Fidelity = "fluid"
    rate_req_s: float | None = None
    overrides: tuple[str, ...] = ()
    json_output: bool = False
    html: Path | None = None


def run_simulate(options: SimulateOptions) -> None:
    """Prints the comparison, and progress on stderr.

    Raises ConfigError for options and files that cannot be used; a trace's faulty line is found when it is reached.
    """
    policies = _policies(options.policies)
    if options.html and not options.html.absolute().parent.is_dir():
        raise ConfigError(f"--html {options.html}: there is no such folder; make it, or give a file elsewhere")
    deployment = _deployment(options)
    rate_req_s = _rate(deployment, options.rate_req_s)
    begin = time.perf_counter()
    outcomes = _runs(deployment, policies, rate_req_s, options)
    wall_s = time.perf_counter() - begin
    if options.html:
        _write_page(options.html, deployment, outcomes, rate_req_s)
    if options.json_output:
        told = report(outcomes, requests=options.requests, wall_s=wall_s)
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        return
    console = Console()
    console = console if console.is_terminal else Console(width=FILE_COLUMNS)
    show(outcomes, console)
    total = options.requests * len(outcomes)
    console.print(f"{total:,} requests simulated in {wall_s:.1f} s: {total / wall_s:,.0f} a second.", highlight=False)
    if options.html:
        console.print(f"wrote {options.html}", highlight=False, soft_wrap=True)


def _policies(asked: Sequence[str]) -> list[str]:
    for name in asked:
        if name not in POLICIES:
            raise ConfigError(f"--policy: none is called {name!r}; choose among {', '.join(POLICIES)}")
    return list(dict.fromkeys(asked))


def _deployment(options: SimulateOptions) -> DeploymentFile:
    if options.trace and options.workload:
        raise ConfigError("--trace and --workload both say what clients ask; give one of them")
    chosen: dict[str, Any] | None = None
    if options.trace:
        chosen = {"distribution": "trace", "path": str(options.trace.absolute())}
    elif options.workload and load_deployment(options.config).workload.input.distribution != options.workload:
        chosen = {"distribution": options.workload, **INPUTS[options.workload]}
    first = [f"workload.input={json.dumps(chosen)}"] if chosen else []
    return load_deployment(options.config, [*first, *options.overrides])


def _rate(deployment: DeploymentFile, asked_req_s: float | None) -> float:
    """Of independent requests; 0 for workloads that have a rate of their own."""
    source = deployment.workload.input
    if isinstance(source, TraceSection | AgenticSection):
        if asked_req_s is not None:
            key = "rate_scale" if isinstance(source, TraceSection) else "sessions"
            raise ConfigError(
                f"--rate: this workload has a rate of its own; leave it out, or use --set workload.input.{key}=…"
            )
        return 0.0
    if asked_req_s is not None:
        return asked_req_s
    if (given := deployment.workload.rate_req_s) is not None:
        return given
    fleet = fleet_of(deployment)
    return planned_req_s(fleet, best(fleet))


def _runs(
    deployment: DeploymentFile, policies: Sequence[str], rate_req_s: float, options: SimulateOptions
) -> list[Outcome]:
    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    outcomes = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {policy: progress.add_task(policy, total=options.requests) for policy in policies}
        for policy, task in tasks.items():
            outcomes.append(
                simulate(
                    deployment,
                    build_workload(deployment.workload, rate_req_s=rate_req_s, seed=options.seed),
                    policy,
                    requests=options.requests,
                    seed=options.seed,
                    fidelity=options.fidelity,
                    on_progress=lambda done, task=task: progress.update(task, completed=done),  # type: ignore[misc]
                )
            )
    return outcomes


def _write_page(path: Path, deployment: DeploymentFile, outcomes: Sequence[Outcome], rate_req_s: float) -> None:
    from prfaas.planner.simulate.page import simulation_page

    try:
        path.write_text(simulation_page(deployment, outcomes, rate_req_s=rate_req_s), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {path} cannot be written: {error.strerror}; give another file") from error

"""Commands that answer before anything is bought or run: plan, simulate."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from prfaas.cli.commands.failures import one_line_errors
from prfaas.cli.commands.options import DeploymentArgument, HtmlOption, JsonOption, SetOption


def plan(
    config: DeploymentArgument,
    json_output: JsonOption = False,
    html: HtmlOption = None,
    overrides: SetOption = None,
) -> None:
    """Work out what a deployment can do: threshold, roles, throughput, waiting, cost; and whether offloading pays.

    [dim]prfaas plan configs/case-study.yaml --set links.0.gbit_s=10 --html plan.html[/dim]
    """
    from prfaas.cli.plan import run_plan

    with one_line_errors():
        run_plan(config, tuple(overrides or []), json_output=json_output, html=html)


def simulate(
    config: DeploymentArgument,
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
    json_output: JsonOption = False,
    html: HtmlOption = None,
) -> None:
    """Play policies against each other on a deployment, with the router's own policy code.

    [dim]prfaas simulate configs/case-study.yaml --html case-study.html[/dim]
    [dim]prfaas simulate configs/what-if/outage.yaml --policy prfaas --policy local_only[/dim]
    """
    from prfaas.cli.simulate import DEFAULT_POLICIES, SimulateOptions, run_simulate

    with one_line_errors():
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

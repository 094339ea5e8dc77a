"""`python -m benchmarks.fleet`: three deployments of the PrfaaS paper's case study, live, and a cut link."""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.fleet.figures import cut_figures, trial_figures
from benchmarks.fleet.scales import Scales
from benchmarks.fleet.studies import HOMOGENEOUS, NAIVE, PRFAAS, studies
from benchmarks.fleet.trials import Series, Trial, local_only
from benchmarks.report import Column, Part, progress, show_parts
from prfaas.models.demo_model import write_demo_model

FULL, QUICK = 500, 40
"""Requests of a run."""
KV_SCALE = 48 / 17_100
"""A token has 48 bytes: as many as the memory of a small machine holds, so that requests and events, which cross the
link unscaled, are a few percent of what does."""
LASTING_S = 400.0
"""No run is longer, in the case study's seconds."""
RUNS = 5


def main(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    quick: Annotated[
        bool, typer.Option(help="Few requests: shows that it works, its figures are worth little.")
    ] = False,
    requests: Annotated[int, typer.Option(help="Of each run.")] = FULL,
    time_scale: Annotated[float, typer.Option(help="Seconds of the case study in one.")] = 2.0,
    output_scale: Annotated[int, typer.Option(help="Tokens of an answer that one stands for.")] = 8,
) -> None:
    """Runs all deployments one after the other."""
    scales = Scales(6.0 if quick else time_scale, KV_SCALE, 32 if quick else output_scale)
    count = QUICK if quick else requests
    with tempfile.TemporaryDirectory(prefix="prfaas-case-study-") as folder:
        result = asyncio.run(_run(Path(folder), scales, count))
    _show(result, scales, json_output=json_output)


async def _run(folder: Path, scales: Scales, requests: int) -> dict[str, Any]:
    model = folder / "model"
    write_demo_model(model)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=progress
    ) as bar:
        task = bar.add_task("starting", total=RUNS * requests)
        series = Series(
            scales,
            model,
            requests,
            at_most_s=LASTING_S,
            on_begin=lambda what: bar.update(task, description=what),
            on_ended=lambda: bar.advance(task),
        )
        return await _all(folder, series)


async def _all(folder: Path, series: Series) -> dict[str, Any]:
    found = studies(folder, series.scales.output)
    trials: dict[str, Trial] = {}
    for name in (HOMOGENEOUS, NAIVE):
        async with AsyncExitStack() as stack:
            trials[name] = await series.fleet(found[name], stack).bearable()
    async with AsyncExitStack() as stack:
        bench = series.fleet(found[PRFAAS], stack)
        trials[PRFAAS] = await bench.bearable()
        beside = await bench.at(trials[HOMOGENEOUS].rate_req_s)
        cut = bench.cut_at(trials[PRFAAS].rate_req_s)
        cut_trial = await bench.at(trials[PRFAAS].rate_req_s, cut)
    alone_s = local_only(found[PRFAAS], cut_trial.rate_req_s, series.count(cut_trial.rate_req_s), cut)
    slo_s = found[PRFAAS].deployment.slo.ttft_s
    figures = {name: trial_figures(trials[name], slo_s) for name in (PRFAAS, HOMOGENEOUS, NAIVE)}
    rates = {name: figure["goodput_req_s"] for name, figure in figures.items()}
    return {
        "deployments": figures,
        "prfaas_pd_at_the_homogeneous_rate": trial_figures(beside, slo_s),
        "ratio_vs_homogeneous": rates[PRFAAS] / rates[HOMOGENEOUS],
        "ratio_vs_naive": rates[PRFAAS] / rates[NAIVE],
        "p90_ttft_reduction": 1 - beside.live.ttft_s.p90 / trials[HOMOGENEOUS].live.ttft_s.p90,
        "simulator_error": max(trial.p90_error for trial in (*trials.values(), beside)),
        "link_cut": cut_figures(cut_trial, cut, alone_s),
        "time_scale": series.scales.time,
        "kv_scale": series.scales.kv,
        "output_scale": series.scales.output,
        "slo_ttft_s": slo_s,
    }


def _show(result: dict[str, Any], scales: Scales, *, json_output: bool) -> None:
    runs = {**result["deployments"], "prfaas_pd, at the homogeneous rate": result["prfaas_pd_at_the_homogeneous_rate"]}
    rows = [
        {"name": name, **run, "p90_s": run["ttft_s"]["p90"], "p50_s": run["ttft_s"]["p50"]}
        | {
            "p99_s": run["ttft_s"]["p99"],
            "mean_s": run["ttft_s"]["mean"],
            "simulated_s": run["simulated"]["ttft_s"]["p90"],
        }
        for name, run in runs.items()
    ]
    columns = [
        Column("deployment", "name"),
        Column("requests/s", "rate_req_s", ".2f"),
        Column("of plan", "share_of_plan", ".0%"),
        Column("in time", "in_time", ".1%"),
        Column("goodput/s", "goodput_req_s", ".2f"),
        Column("TTFT mean, s", "mean_s", ".2f"),
        Column("P50", "p50_s", ".2f"),
        Column("P90", "p90_s", ".2f"),
        Column("P99", "p99_s", ".2f"),
        Column("P90 simulated", "simulated_s", ".2f"),
        Column("egress Gbit/s", "egress_gbit_s", ".2f"),
        Column("lost", "lost"),
        Column("CPU", "cpu_share", ".0%"),
        Column("own cores", "own_cores", ".2f"),
        Column("void", "void"),
    ]
    cut = [
        Column("link cut", "rate_req_s", ".2f"),
        Column("lost", "lost"),
        Column("P90 TTFT during, s", "p90_ttft_s", ".2f"),
        Column("local only", "p90_ttft_local_only_s", ".2f"),
        Column("fell back", "fell_back"),
        Column("void", "void"),
    ]
    parts = [Part("the case study, live", columns, rows), Part("link at 10 % for 30 s", cut, [result["link_cut"]])]
    compared = ("ratio_vs_homogeneous", "ratio_vs_naive", "p90_ttft_reduction", "simulator_error")
    facts = {name: f"{result[name]:.3f}" for name in compared} | {
        "scales": f"time {scales.time:g}, bytes {scales.kv:.4g}, output {scales.output}"
    }
    show_parts("fleet", parts, result, facts, json_output=json_output)


if __name__ == "__main__":
    typer.run(main)

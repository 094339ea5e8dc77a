"""What runs come to, as the JSON that is printed. Runs nothing."""

from dataclasses import asdict
from typing import Any

from benchmarks.fleet.live_run import LinkCut, LiveRun
from benchmarks.fleet.spread import spread
from benchmarks.fleet.trials import Trial

BUSY = 0.95
"""Above that share of the machine's processors figures say nothing of the fleet."""
LATE_STEPS = 0.01
"""Nor with more steps than that a tenth of a second late."""


def trial_figures(trial: Trial, slo_ttft_s: float) -> dict[str, Any]:
    """One run; seconds and Gbit/s are the case study's."""
    live, simulated = trial.live, trial.simulated
    return {
        "rate_req_s": trial.rate_req_s,
        "rate_in_time_req_s": trial.rate_in_time_req_s,
        "share_of_plan": trial.rate_req_s / trial.planned_req_s,
        "requests": len(live.served) + len(live.lost),
        "lost": len(live.lost),
        "goodput_req_s": live.goodput_req_s(slo_ttft_s),
        "in_time": live.in_time(slo_ttft_s),
        "ttft_s": asdict(live.ttft_s),
        "egress_gbit_s": live.egress_gbit_s,
        "offloaded": sum(request.remote for request in live.served) / len(live.served),
        "fell_back": sum(request.fell_back for request in live.served),
        "thresholds": live.thresholds,
        "simulated": {
            "ttft_s": asdict(simulated.ttft_s),
            "egress_gbit_s": simulated.egress_gbit_s.mean,
            "offloaded": simulated.offloaded_fraction,
        },
        "p90_error": trial.p90_error,
        **_worth(live),
    }


def cut_figures(trial: Trial, cut: LinkCut, local_only_p90_s: float) -> dict[str, Any]:
    """The run with the cut: requests that came while it lasted, and first tokens that left."""
    came = [r.ttft_s for r in trial.live.served if cut.covers(r.at_s)]
    left = [r.ttft_s for r in trial.live.served if cut.covers(r.at_s + r.ttft_s)]
    worst_s = max(spread(came).p90, spread(left).p90)
    return {
        "rate_req_s": trial.rate_req_s,
        "share": cut.share,
        "for_s": cut.for_s,
        "lost": len(trial.live.lost),
        "requests_during": len(came),
        "p90_ttft_s": worst_s,
        "p90_ttft_local_only_s": local_only_p90_s,
        "of_local_only": worst_s / local_only_p90_s,
        "fell_back": sum(request.fell_back for request in trial.live.served),
        "thresholds": trial.live.thresholds,
        "simulated_p90_ttft_s": trial.simulated.ttft_s.p90,
        "whole_run_p90_ttft_s": trial.live.ttft_s.p90,
        **_worth(trial.live),
    }


def _worth(live: LiveRun) -> dict[str, Any]:
    """What the machine had to do with it."""
    return {
        "cpu_share": live.cpu_share,
        "own_cores": live.own_cores,
        "late_ms": live.lateness.mean_ms,
        "late_steps": live.lateness.late_share,
        "void": live.cpu_share > BUSY or live.lateness.late_share > LATE_STEPS,
    }

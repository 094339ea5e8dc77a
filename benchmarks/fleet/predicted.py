"""What plan and simulator say of a deployment, in the case study's seconds. Starts nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.fleet.studies import Study
from prfaas.planner.simulate.arrival import Arrival, Workload
from prfaas.planner.simulate.opening import opening
from prfaas.planner.simulate.outcome import Fidelity, Outcome
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.workloads.build import build_workload
from prfaas.policy.throughput import throughput

IN_TIME = 0.9
"""Of the first tokens, as `slo.ttft_s` asks."""
SHARES = tuple(share / 20 for share in range(10, 21))
"""Of a deployment's planned rate: a grid of 5 %, from half of it to all."""
PERCENT = 100
"""Of `Outcome.ttft_quantiles_s`, the first so many are at whole percent."""


def planned_rate(study: Study) -> float:
    """Lambda_max of Eq 6, requests/s, with the roles that the fleet has."""
    begin = opening(study.deployment, study.policy)
    n_p = sum(seat.kind == "pd" and seat.role == "prefill" for seat, _ in begin.seats)
    return throughput(begin.deployment, begin.lengths, begin.threshold_tokens, n_p).lambda_max


def arrivals(study: Study, rate_req_s: float, requests: int, seed: int) -> list[Arrival]:
    """The same that `predict` simulates; of another rate the same prompts."""
    found = workload(study, rate_req_s, seed).arrivals()
    return [next(found) for _ in range(requests)]


def predict(study: Study, rate_req_s: float, requests: int, seed: int, fidelity: Fidelity = "step") -> Outcome:
    """Roles, threshold and loops as in the fleet."""
    chosen = workload(study, rate_req_s, seed)
    return simulate(study.deployment, chosen, study.policy, requests=requests, seed=seed, fidelity=fidelity)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deployment at one rate, as the simulator has it."""

    rate_req_s: float
    in_time: float
    """Share of the first tokens, in whole percent."""

    @property
    def goodput_req_s(self) -> float:
        """First tokens in time per second."""
        return self.rate_req_s * self.in_time


def grid(study: Study, count: Callable[[float], int], seed: int) -> list[Loaded]:
    """Every rate of the grid; `count` says how many requests a run at a rate has."""
    planned, slo_s = planned_rate(study), study.deployment.slo.ttft_s
    found = []
    for share in SHARES:
        rate = share * planned
        quantiles = predict(study, rate, count(rate), seed).ttft_quantiles_s
        found.append(Loaded(rate, sum(q <= slo_s for q in quantiles[:PERCENT]) / PERCENT))
    return found


def best_rate(loads: Sequence[Loaded]) -> float:
    """At which most first tokens are in time per second: beyond it, queues make more of them late than come."""
    return max(loads, key=lambda load: load.goodput_req_s).rate_req_s


def rate_in_time(loads: Sequence[Loaded]) -> float | None:
    """The highest at which nine of ten are; None: at none."""
    return max((load.rate_req_s for load in loads if load.in_time >= IN_TIME), default=None)


def workload(study: Study, rate_req_s: float, seed: int) -> Workload:
    """Poisson arrivals of log-normal lengths."""
    return build_workload(study.deployment.workload, rate_req_s=rate_req_s, seed=seed)

"""What plan and simulator say of a deployment, in the case study's seconds. Starts nothing."""

from benchmarks.fleet.studies import Study
from prfaas.planner.simulate.arrival import Arrival, Workload
from prfaas.planner.simulate.opening import opening
from prfaas.planner.simulate.outcome import QUANTILES, Fidelity, Outcome
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.workloads.build import build_workload
from prfaas.policy.throughput import throughput

IN_TIME = 0.9
"""Of the first tokens, as `slo.ttft_s` asks."""
SHARES = tuple(share / 20 for share in range(6, 21))
"""Of a deployment's planned rate: a grid of 5 %, from 0.3 to 1."""


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


def bearable_rate(study: Study, requests: int, seed: int) -> float:
    """The highest rate of the grid at which the simulator has nine of ten first tokens in time."""
    best, planned = SHARES[0], planned_rate(study)
    for share in SHARES:
        outcome = predict(study, share * planned, requests, seed, "fluid")
        if outcome.ttft_quantiles_s[QUANTILES.index(IN_TIME)] > study.deployment.slo.ttft_s:
            break
        best = share
    return best * planned


def workload(study: Study, rate_req_s: float, seed: int) -> Workload:
    """Poisson arrivals of log-normal lengths."""
    return build_workload(study.deployment.workload, rate_req_s=rate_req_s, seed=seed)

"""What one fleet does with one threshold and one split: the figures that a plan compares. Judges nothing."""

from dataclasses import dataclass

from prfaas.core.errors import ConfigError
from prfaas.planner.plan.cost import LOAD, cost_of
from prfaas.planner.plan.egress import egress_quantile_bytes_s
from prfaas.planner.plan.fleet import Fleet
from prfaas.planner.plan.times_to_first_token import FirstTokens, first_tokens
from prfaas.policy.solve import solve
from prfaas.policy.throughput import Bottleneck, Throughput, service_ttft, throughput


@dataclass(frozen=True, slots=True)
class Forecast:
    """Rates in requests/s. The first twelve as the PrfaaS paper computes them (s3.4, table 6); None: no such thing."""

    threshold_tokens: int | None
    n_prfaas: int
    n_p: int
    n_d: int
    theta_prfaas: float | None
    theta_pdp: float | None
    theta_pdd: float
    lambda_max: float
    offloaded_fraction: float
    egress_gbit_s: float
    """Eq 2: what crosses when all prfaas instances are busy."""
    ttft_mean_s: float
    """Of prefill alone, as in table 6: no queue, no transfer."""
    ttft_p90_s: float
    ttft_queued_mean_s: float | None
    """At `planned_req_s`, with queues and transfer; None: it would grow for ever."""
    ttft_queued_p90_s: float | None
    planned_req_s: float
    """`workload.rate_req_s`, or 0.9 of Lambda_max."""
    lambda_max_expected: float
    """With E[T(L)] where the paper has T(E[L]): what really can be kept up."""
    bottleneck: Bottleneck
    long_tokens: float
    short_tokens: float
    egress_crossing_gbit_s: float
    """What really crosses at Lambda_max."""
    egress_p99_gbit_s: float
    """Over 10 s, at `planned_req_s`."""
    usd_per_hour: float | None
    """Instances and egress, at 0.9 of Lambda_max; None: an instance has no price."""
    usd_per_mtok: float | None
    usd_per_mtok_total: float | None


def best(fleet: Fleet) -> Throughput:
    """The threshold and the split that serve most. Raises ConfigError where nothing could be served, or not in time."""
    deployment, lengths = fleet.deployment(), fleet.lengths
    if (fleet.least_n_p, fleet.most_n_p) == (0, fleet.n_pd - 1):
        found = solve(deployment, lengths)
    else:
        counts = range(fleet.least_n_p, fleet.most_n_p + 1)
        found = max((solve(deployment, lengths, n_p=n_p) for n_p in counts), key=lambda at: at.lambda_max)
    if not found.lambda_max:
        raise ConfigError(
            f"clusters: of {fleet.n_pd} pd instances {found.n_p} prefill and {found.n_d} decode, and no other does, so "
            "nothing would be served; add instances, or a prfaas cluster, or let another of them prefill"
        )
    return found


def all_remote(fleet: Fleet) -> Throughput:
    """Naive: every prompt is prefilled remotely, and all pd instances decode."""
    return throughput(fleet.deployment(), fleet.lengths, 0, 0)


def first_tokens_of(fleet: Fleet, at: Throughput) -> FirstTokens | None:
    """At the planned rate."""
    return first_tokens(fleet.deployment(), fleet.lengths, at, planned_req_s(fleet, at), fleet.rtt_s)


def planned_req_s(fleet: Fleet, at: Throughput) -> float:
    """The file's rate, or 0.9 of what can be done."""
    return fleet.rate_req_s or LOAD * at.lambda_max


def forecast(fleet: Fleet, at: Throughput) -> Forecast:
    """Everything that follows from a threshold and a split."""
    deployment, lengths = fleet.deployment(), fleet.lengths
    mean_s, p90_s = service_ttft(deployment, lengths, at.threshold_tokens)
    queued, cost, rate = first_tokens_of(fleet, at), cost_of(fleet, at), planned_req_s(fleet, at)
    offloads = at.offloaded_fraction > 0
    return Forecast(
        threshold_tokens=at.threshold_tokens if fleet.prfaas else None,
        n_prfaas=at.n_prfaas,
        n_p=at.n_p,
        n_d=at.n_d,
        theta_prfaas=at.theta_prfaas if offloads else None,
        theta_pdp=at.theta_pdp if at.n_p else None,
        theta_pdd=at.theta_pdd,
        lambda_max=at.lambda_max,
        offloaded_fraction=at.offloaded_fraction,
        egress_gbit_s=at.egress_ceiling_bytes_s * 8 / 1e9,
        ttft_mean_s=mean_s,
        ttft_p90_s=p90_s,
        ttft_queued_mean_s=queued.mean_s if queued else None,
        ttft_queued_p90_s=queued.quantile_s(0.9) if queued else None,
        planned_req_s=rate,
        lambda_max_expected=throughput(deployment, lengths, at.threshold_tokens, at.n_p, expected=True).lambda_max,
        bottleneck=at.bottleneck,
        long_tokens=at.long_tokens,
        short_tokens=at.short_tokens,
        egress_crossing_gbit_s=at.egress_bytes_s * 8 / 1e9,
        egress_p99_gbit_s=egress_quantile_bytes_s(deployment, lengths, at, rate) * 8 / 1e9,
        usd_per_hour=cost.usd_per_hour if cost else None,
        usd_per_mtok=cost.usd_per_mtok if cost else None,
        usd_per_mtok_total=cost.usd_per_mtok_total if cost else None,
    )

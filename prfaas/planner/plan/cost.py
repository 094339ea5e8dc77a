"""What tokens cost, and where offloading breaks even. Knows no queues."""

from dataclasses import dataclass

from prfaas.planner.plan.fleet import PAYLOAD_BYTES_PER_GBIT, Fleet
from prfaas.policy.throughput import Throughput

LOAD = 0.9
"""Of Lambda_max, at which costs are reckoned: nobody runs a fleet at its limit."""
BYTES_PER_GB = 1e9
S_PER_HOUR = 3600.0
TOKENS_PER_MTOK = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """At 0.9 of Lambda_max."""

    usd_per_hour: float
    """Instances and egress."""
    usd_per_mtok: float
    """Per million output tokens."""
    usd_per_mtok_total: float
    """Per million tokens, prompts (cached ones too) and answers."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Up to where offloading pays, everything else being as planned, threshold and split included; None: no such."""

    usd_per_gb: float | None
    """Egress price at which a dollar serves as much as in the homogeneous cluster; below 0: not even free of charge."""
    price_ratio: float | None
    """The same for the price of a prfaas instance, over that of a pd instance."""
    link_gbit_s: float | None
    """Capacity below which the link would bind rather than the prfaas instances: Eq 2 is its payload."""


def cost_of(fleet: Fleet, at: Throughput) -> Cost | None:
    """None where an instance has no price, or nothing is served."""
    if not _priced(fleet) or not at.lambda_max:
        return None
    usd_per_hour = _usd_per_hour(fleet, at, LOAD)
    requests_per_hour = LOAD * at.lambda_max * S_PER_HOUR
    per_request = usd_per_hour / requests_per_hour
    total_tokens = fleet.output_tokens + fleet.prompts.mean
    return Cost(
        usd_per_hour=usd_per_hour,
        usd_per_mtok=per_request / fleet.output_tokens * TOKENS_PER_MTOK,
        usd_per_mtok_total=per_request / total_tokens * TOKENS_PER_MTOK,
    )


def gain_at_equal_cost(fleet: Fleet, at: Throughput, homogeneous: Fleet, other: Throughput) -> float | None:
    """Requests per dollar, egress included, over those of the homogeneous cluster, minus 1; both at Lambda_max.

    That is the gain in throughput over a homogeneous cluster scaled to the same $/hour, fractions of instances allowed.
    """
    if not (_priced(fleet) and _priced(homogeneous) and other.lambda_max):
        return None
    per_usd = at.lambda_max / _usd_per_hour(fleet, at, 1.0)
    return per_usd / (other.lambda_max / _usd_per_hour(homogeneous, other, 1.0)) - 1


def break_even(fleet: Fleet, at: Throughput, homogeneous: Fleet, other: Throughput) -> BreakEven:
    """In closed form."""
    if not at.offloaded_fraction or fleet.prfaas is None:
        return BreakEven(None, None, None)
    link_gbit_s = at.egress_ceiling_bytes_s / PAYLOAD_BYTES_PER_GBIT
    if not (_priced(fleet) and _priced(homogeneous) and other.lambda_max and at.lambda_max):
        return BreakEven(None, None, link_gbit_s)
    worth = _usd_per_hour(homogeneous, other, 1.0) * at.lambda_max / other.lambda_max
    gb_per_hour = at.egress_bytes_s / BYTES_PER_GB * S_PER_HOUR
    remote = worth - gb_per_hour * fleet.usd_per_gb - fleet.n_pd * fleet.pd.usd_per_hour
    return BreakEven(
        usd_per_gb=(worth - fleet.usd_per_hour) / gb_per_hour,
        price_ratio=remote / fleet.n_prfaas / fleet.pd.usd_per_hour,
        link_gbit_s=link_gbit_s,
    )


def _priced(fleet: Fleet) -> bool:
    return fleet.pd.usd_per_hour > 0 and (fleet.prfaas is None or fleet.prfaas.usd_per_hour > 0)


def _usd_per_hour(fleet: Fleet, at: Throughput, load: float) -> float:
    return fleet.usd_per_hour + load * at.egress_bytes_s / BYTES_PER_GB * S_PER_HOUR * fleet.usd_per_gb

"""How a plan moves when one thing about it is another. Everything else stays; threshold and split are found anew."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import exp

from prfaas.core.errors import ConfigError
from prfaas.planner.plan.cost import cost_of, gain_at_equal_cost
from prfaas.planner.plan.fleet import PAYLOAD_BYTES_PER_GBIT, Fleet
from prfaas.planner.plan.forecast import best
from prfaas.planner.plan.prompt_lengths import Scaled
from prfaas.policy.lengths import Lognormal

LINK_SHARES = (0.1, 0.5, 1.0, 2.0)
"""Of the capacity from which on the link does not bind; the planned capacity is added."""
USD_PER_GB = (0.0, 0.005, 0.01, 0.02, 0.05)
PRICE_RATIOS = (1.0, 1.5, 2.0, 2.5, 3.0)
SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
SIGMAS = (0.5, 0.75, 1.0, 1.25, 1.5)
HIT_RATES = (0.0, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Point:
    """One value, and what the plan is then."""

    value: float
    planned: bool
    """The deployment file's own value."""
    lambda_max: float
    threshold_tokens: int
    n_p: int
    n_d: int
    offloaded_fraction: float
    usd_per_mtok: float | None
    gain_at_equal_cost: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """What one thing does."""

    name: str
    """E.g. link_gbit_s."""
    label: str
    points: tuple[Point, ...]
    """By rising value. Values at which the SLO allows no decode batch are left out."""


Change = Callable[[Fleet, float], Fleet]


def sensitivity(fleet: Fleet, homogeneous: Fleet, link_binds_gbit_s: float | None) -> tuple[Curve, ...]:
    """Link, egress price, price ratio, lengths and hit rate; what a fleet lacks is left out."""
    return tuple(
        _curve(name, label, values, planned, change, fleet, homogeneous)
        for name, label, values, planned, change in _dimensions(fleet, link_binds_gbit_s)
    )


def _dimensions(
    fleet: Fleet, link_binds_gbit_s: float | None
) -> Iterator[tuple[str, str, tuple[float, ...], float, Change]]:
    if fleet.prfaas:
        link = round(fleet.link_gbit_s, 6)
        shares = tuple(round(share * (link_binds_gbit_s or link), 1) for share in LINK_SHARES)
        yield "link_gbit_s", "link, Gbit/s", shares, link, _link
        yield "usd_per_gb", "egress, $/GB", USD_PER_GB, fleet.usd_per_gb, _egress_price
        if fleet.pd.usd_per_hour and fleet.prfaas.usd_per_hour:
            ratio = fleet.prfaas.usd_per_hour / fleet.pd.usd_per_hour
            yield "price_ratio", "price of a prfaas instance / pd", PRICE_RATIOS, ratio, _price_ratio
    if isinstance(fleet.prompts, Lognormal):
        mu, sigma = fleet.prompts.mu, fleet.prompts.sigma
        yield "mu", "mu of ln(tokens)", tuple(round(mu + shift, 6) for shift in SHIFTS), mu, _mu
        yield "sigma", "sigma of ln(tokens)", SIGMAS, sigma, _sigma
    else:
        factors = tuple(round(exp(shift), 2) for shift in SHIFTS)
        yield "length_factor", "prompts, times as long", factors, 1.0, _longer
    yield "hit_rate", "share of prompts cached", HIT_RATES, fleet.hit_rate, _hit_rate


def _curve(
    name: str,
    label: str,
    values: tuple[float, ...],
    planned: float,
    change: Change,
    fleet: Fleet,
    homogeneous: Fleet,
) -> Curve:
    points = []
    for value in sorted({*values, planned}):
        try:
            points.append(_point(value, change(fleet, value), change(homogeneous, value), planned=value == planned))
        except ConfigError:
            continue
    return Curve(name, label, tuple(points))


def _point(value: float, fleet: Fleet, homogeneous: Fleet, *, planned: bool) -> Point:
    at, other = best(fleet), best(homogeneous)
    cost = cost_of(fleet, at)
    return Point(
        value=value,
        planned=planned,
        lambda_max=at.lambda_max,
        threshold_tokens=at.threshold_tokens,
        n_p=at.n_p,
        n_d=at.n_d,
        offloaded_fraction=at.offloaded_fraction,
        usd_per_mtok=cost.usd_per_mtok if cost else None,
        gain_at_equal_cost=gain_at_equal_cost(fleet, at, homogeneous, other),
    )


def _link(fleet: Fleet, gbit_s: float) -> Fleet:
    return replace(fleet, egress_bytes_s=gbit_s * PAYLOAD_BYTES_PER_GBIT)


def _egress_price(fleet: Fleet, usd_per_gb: float) -> Fleet:
    return replace(fleet, usd_per_gb=usd_per_gb)


def _price_ratio(fleet: Fleet, ratio: float) -> Fleet:
    if fleet.prfaas is None:
        return fleet
    return replace(fleet, prfaas=replace(fleet.prfaas, usd_per_hour=ratio * fleet.pd.usd_per_hour))


def _mu(fleet: Fleet, mu: float) -> Fleet:
    assert isinstance(fleet.prompts, Lognormal)
    return replace(fleet, prompts=replace(fleet.prompts, mu=mu))


def _sigma(fleet: Fleet, sigma: float) -> Fleet:
    assert isinstance(fleet.prompts, Lognormal)
    return replace(fleet, prompts=replace(fleet.prompts, sigma=sigma))


def _longer(fleet: Fleet, factor: float) -> Fleet:
    return replace(fleet, prompts=Scaled(fleet.prompts, factor))


def _hit_rate(fleet: Fleet, hit_rate: float) -> Fleet:
    return replace(fleet, hit_rate=hit_rate)

"""Whether offloading pays, in words. Computes nothing that is not given."""

from dataclasses import dataclass

from prfaas.planner.plan.cost import BreakEven
from prfaas.planner.plan.forecast import Forecast


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first line of a plan."""

    pays: bool
    sentence: str


def verdict(plan: Forecast, homogeneous: Forecast, gain: float | None, longest_tokens: float) -> Verdict:
    """`gain`: at equal cost; None: prices are not known, and instances are counted instead of dollars."""
    if not plan.n_prfaas:
        return Verdict(False, f"There is no prfaas cluster to offload to: {_serves(plan)}.")
    if not plan.offloaded_fraction:
        return Verdict(
            False,
            f"Offloading does not pay here: the best threshold is the longest prompt, {longest_tokens:,.0f} tokens. "
            f"{_serves(plan).capitalize()}.",
        )
    compared = _compared(plan, homogeneous, gain)
    if (plan.lambda_max <= homogeneous.lambda_max) if gain is None else (gain <= 0):
        return Verdict(False, f"Offloading does not pay here: {_serves(plan)}, {compared}.")
    split = f"send prompts above {plan.threshold_tokens:,} uncached tokens ({plan.offloaded_fraction:.1%}) away"
    return Verdict(True, f"Offloading pays: {split}; {_serves(plan)}, {compared}.")


def _serves(plan: Forecast) -> str:
    remote = f"{plan.n_prfaas} prfaas + " if plan.n_prfaas and plan.offloaded_fraction else ""
    return f"{remote}{plan.n_p} prefill + {plan.n_d} decode instances serve {plan.lambda_max:.2f} requests/s"


def _compared(plan: Forecast, homogeneous: Forecast, gain: float | None) -> str:
    other = homogeneous.n_p + homogeneous.n_d
    times = f"{plan.lambda_max / homogeneous.lambda_max:.2f} times the homogeneous cluster of {other}"
    if gain is None:
        return times
    return f"{times}, and {abs(gain):.1%} {'more' if gain > 0 else 'less'} for the same money"


def break_even_words(at: BreakEven, usd_per_gb: float, price_ratio: float | None, link_gbit_s: float) -> list[str]:
    """Sentences for what is known. Prices and link: as planned."""
    words = []
    if at.usd_per_gb is not None and at.usd_per_gb > 0:
        words.append(
            f"Offloading pays as long as egress costs less than {at.usd_per_gb:.2g} $/GB (planned: {usd_per_gb:g})."
        )
    if at.usd_per_gb is not None and at.usd_per_gb <= 0:
        words.append("Offloading would not pay even if egress were free of charge.")
    if at.price_ratio is not None and at.price_ratio > 0 and price_ratio is not None:
        words.append(
            f"It pays as long as a prfaas instance costs less than {at.price_ratio:.2f} times a pd instance (planned: "
            f"{price_ratio:.2f})."
        )
    if at.link_gbit_s is not None and at.link_gbit_s > link_gbit_s:
        words.append(f"The link binds: the prfaas instances could fill {at.link_gbit_s:.1f} Gbit/s of it.")
    elif at.link_gbit_s is not None:
        words.append(f"Below {at.link_gbit_s:.1f} Gbit/s the link would bind, rather than the prfaas instances.")
    return words

"""The threshold as load and link change: the short one of the PrfaaS paper's two timescales (s3.4.3).

Decides from what was measured; knows neither who measured it nor how often it is asked.
"""

from dataclasses import dataclass, replace
from typing import Literal

from prfaas.policy.lengths import Lengths
from prfaas.policy.solve import solve
from prfaas.policy.throughput import Deployment, beyond


@dataclass(frozen=True, slots=True)
class Signals:
    """What the fleet measured lately."""

    at_s: float
    link_utilisation: float
    """Share of `egress_bytes_s` in use, 0 to 1."""
    link_queue_s: float
    """What is queued for the link takes so long."""
    egress_bytes_s: float
    """What the link delivers when there is enough to send; 0: nothing gets through."""
    prfaas_queue_s: float
    """A prompt waits so long before its prefill begins, remotely..."""
    pdp_queue_s: float
    """...and locally."""
    rate_req_s: float
    """Requests come so often."""
    link: str = "link"
    """What to call it in reasons."""


@dataclass(frozen=True, slots=True)
class RetuneParams:
    """When to step in, and by how much. A step of the threshold moves the link's load by less than the two marks lie
    apart, so that it does not lead from one of them to the other and back."""

    high_utilisation: float = 0.9
    low_utilisation: float = 0.7
    planned_utilisation: float = 0.8
    """Of the link, at most, that the best threshold counts on."""
    max_link_queue_s: float = 0.5
    queue_margin_s: float = 1.0
    """Prompts wait longer on one side than on the other by this..."""
    queue_margin: float = 0.5
    """...and by this share of the shorter wait, before it matters."""
    step: float = 1.25
    min_factor: float = 1 / 8
    max_factor: float = 64.0
    best_band: float = 0.05
    """The best threshold has to move by this share to be followed..."""
    jump: float = 1.3
    """...and where it moves by this factor it is followed at once."""
    settle_s: float = 10.0
    """Between two changes."""
    calm_s: float = 30.0
    """Without a change, before the factor goes back towards 1."""
    drain_s: float = 30.0
    """A queue that will have gone by then, as fast as it shrinks, needs no further step."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The threshold in force, and how it came about."""

    threshold_tokens: int
    best_tokens: int
    """What the throughput model finds best for the measured link and the latest lengths."""
    factor: float
    """What the threshold is of the best one: what the model does not see."""
    changed_s: float
    reason: str
    seen: Signals | None = None
    """At the last look, so that one can tell whether a queue grows."""

    @classmethod
    def start(cls, threshold_tokens: int, at_s: float = 0.0) -> "Tuning":
        return cls(threshold_tokens, threshold_tokens, 1.0, at_s, f"threshold {threshold_tokens} to begin with")


Move = Literal["raise", "lower", "back"]


def retune(
    tuning: Tuning,
    signals: Signals,
    deployment: Deployment,
    lengths: Lengths,
    params: RetuneParams,
    *,
    n_p: int | None = None,
) -> Tuning:
    """The threshold from now on, with the reason of the last change; unchanged but for `seen` where there is none.

    `deployment` as planned: its egress is replaced by the measured one. `n_p`: local prefill instances at present.
    """
    looked = replace(tuning, seen=signals)
    if not lengths.mean:
        return looked
    measured = replace(deployment, egress_bytes_s=signals.egress_bytes_s * params.planned_utilisation)
    best = solve(measured, lengths, n_p=n_p).threshold_tokens
    if _followed(tuning, best, signals, params):
        reason = _why_best(best, signals, lengths)
        return _changed(looked, signals, best, tuning.factor, reason)
    move, reason = _move(tuning, signals, params)
    if move is None or not _helps(move, tuning, lengths):
        return looked
    wait_s = params.calm_s if move == "back" else params.settle_s
    if signals.at_s - tuning.changed_s < wait_s or not signals.egress_bytes_s:
        return looked
    return _changed(looked, signals, tuning.best_tokens, _stepped(tuning.factor, move, params), reason)


def _changed(tuning: Tuning, signals: Signals, best: int, factor: float, reason: str) -> Tuning:
    threshold = round(best * factor)
    return replace(
        tuning,
        threshold_tokens=threshold,
        best_tokens=best,
        factor=factor,
        changed_s=signals.at_s,
        reason=f"{reason}: threshold {tuning.threshold_tokens} → {threshold}",
    )


def _followed(tuning: Tuning, best: int, signals: Signals, params: RetuneParams) -> bool:
    low, high = sorted((max(best, 1), max(tuning.best_tokens, 1)))
    if high >= low * params.jump:
        return True
    return high > low * (1 + params.best_band) and signals.at_s - tuning.changed_s >= params.settle_s


def _helps(move: Move, tuning: Tuning, lengths: Lengths) -> bool:
    """Beyond the longest and the shortest prompt a further step changes nothing now, and has to be taken back later."""
    if move == "raise":
        return 0 < tuning.threshold_tokens < beyond(lengths)
    return move == "back" or tuning.threshold_tokens > lengths.quantile(0.0)


def _stepped(factor: float, move: Move, params: RetuneParams) -> float:
    if move == "raise":
        return min(factor * params.step, params.max_factor)
    if move == "lower":
        return max(factor / params.step, params.min_factor)
    return max(factor / params.step, 1.0) if factor > 1 else min(factor * params.step, 1.0)


def _move(tuning: Tuning, signals: Signals, params: RetuneParams) -> tuple[Move | None, str]:
    """Which way the signals push, and why."""
    before = tuning.seen or signals
    remote_s, local_s = _remote_s(signals), signals.pdp_queue_s
    lead_s = remote_s - local_s
    margin_s = params.queue_margin_s + params.queue_margin * min(remote_s, local_s)
    look_s = signals.at_s - before.at_s
    if _lasts(lead_s, _remote_s(before) - before.pdp_queue_s, margin_s, look_s, params):
        return "raise", _why_queues(signals)
    if lead_s > -margin_s and _is_hot(signals, before, look_s, params):
        return "raise", _why_link(signals)
    idle = signals.link_utilisation < params.low_utilisation and signals.link_queue_s <= params.max_link_queue_s / 2
    if idle and _lasts(-lead_s, before.pdp_queue_s - _remote_s(before), margin_s, look_s, params):
        return "lower", _why_queues(signals)
    even = abs(lead_s) <= margin_s / 2
    if even and (tuning.factor < 1 or (tuning.factor > 1 and idle)):
        return "back", f"{_why_link(signals)}, waits are even; back towards the best, {tuning.best_tokens}"
    return None, ""


def _remote_s(signals: Signals) -> float:
    return signals.prfaas_queue_s + signals.link_queue_s


def _lasts(now_s: float, before_s: float, limit_s: float, look_s: float, params: RetuneParams) -> bool:
    """Whether something is above its limit, and not on its way below."""
    if now_s <= limit_s:
        return False
    slope = (now_s - before_s) / look_s if look_s > 0 else 0.0
    return now_s + slope * params.drain_s > limit_s


def _is_hot(signals: Signals, before: Signals, look_s: float, params: RetuneParams) -> bool:
    """A link that is full because a queue drains is not."""
    if signals.link_queue_s > params.max_link_queue_s:
        return _lasts(signals.link_queue_s, before.link_queue_s, params.max_link_queue_s, look_s, params)
    return signals.link_utilisation >= params.high_utilisation


def _why_best(best: int, signals: Signals, lengths: Lengths) -> str:
    if not signals.egress_bytes_s:
        return f"nothing gets through {signals.link}, so no prompt is to cross it"
    return f"best for {_gbit_s(signals)} and prompts of {lengths.mean:.0f} tokens on average is {best}"


def _why_link(signals: Signals) -> str:
    return (
        f"{signals.link} at {signals.link_utilisation:.0%} of {_gbit_s(signals)}, {signals.link_queue_s:.1f} s queued"
    )


def _why_queues(signals: Signals) -> str:
    return (
        f"prompts wait {signals.prfaas_queue_s:.1f} s remotely and {signals.link_queue_s:.1f} s for {signals.link}, "
        f"{signals.pdp_queue_s:.1f} s locally"
    )


def _gbit_s(signals: Signals) -> str:
    return f"{signals.egress_bytes_s * 8e-9:.3g} Gbit/s"

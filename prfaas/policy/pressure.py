"""Whether the threshold had better be higher or lower than the throughput model says. Knows no model, and no threshold.

A queue counts if it is long and not about to be gone, so that what was done already has time to show.
"""

from dataclasses import dataclass
from typing import Literal

from prfaas.policy.signals import Signals

Move = Literal["raise", "lower", "back"]


@dataclass(frozen=True, slots=True)
class RetuneParams:
    """When to step in, and by how much. A step of the threshold moves the link's load by less than the two marks lie
    apart, so that it does not lead from one of them to the other and back."""

    high_utilisation: float = 0.9
    low_utilisation: float = 0.7
    smooth_s: float = 30.0
    """Time constant over which the utilisation is taken: prompts come in bunches."""
    max_link_queue_s: float = 0.5
    queue_margin_s: float = 1.0
    """Prompts wait longer on one side than on the other by this..."""
    queue_margin: float = 0.5
    """...and by this share of the shorter wait, before it matters."""
    prompts: float = 2.0
    """That many at once on one side are chance: waits and queues up to what so many mean prompts take do not matter
    either."""
    step: float = 1.25
    min_factor: float = 1 / 8
    max_factor: float = 64.0
    best_band: float = 0.1
    """The best threshold has to move by this share to be followed..."""
    solve_s: float = 30.0
    """How old what was found best may be; it is searched for anew as soon as the link has moved by that share, too."""
    jump: float = 1.3
    """...and where it moves by this factor it is followed at once."""
    settle_s: float = 10.0
    """Between two changes."""
    calm_s: float = 20.0
    """Without a change, before the factor goes back towards 1; twice as long after each time that this was wrong."""
    drain_s: float = 30.0
    """A queue that will have gone by then, as fast as it shrinks, needs no further step."""


def pressure(factor: float, before: Signals, signals: Signals, params: RetuneParams) -> tuple[Move | None, str]:
    """Which way the signals push a threshold that is `factor` times the best, and why. `before`: at the last look."""
    look_s = signals.at_s - before.at_s
    lead_s, margin_s = remote_lead(signals, params)
    lead_before_s, _ = remote_lead(before, params)
    if _lasts(lead_s, lead_before_s, margin_s, look_s, params):
        return "raise", signals.of_queues()
    # Where local prompts wait, too, a step would trade the link's queue for theirs.
    room = lead_s >= 0 and signals.pdp_queue_s <= params.queue_margin_s
    if room and _is_hot(signals, before, look_s, params):
        return "raise", signals.of_link()
    idle = signals.link_utilisation < params.low_utilisation and signals.link_queue_s <= params.max_link_queue_s / 2
    if idle and _lasts(-lead_s, -lead_before_s, margin_s, look_s, params):
        return "lower", signals.of_queues()
    if factor > 1 and signals.pdp_queue_s > params.queue_margin_s and lead_s <= margin_s:
        return "back", f"{signals.of_queues()}, so a higher threshold spares nobody"
    short = max(signals.remote_s, signals.pdp_queue_s) <= params.queue_margin_s
    if short and (factor < 1 or (factor > 1 and idle)):
        return "back", f"{signals.of_link()}, and waits are short"
    return None, ""


def remote_lead(signals: Signals, params: RetuneParams) -> tuple[float, float]:
    """By how much a prompt waits longer remotely than locally, and how much of that does not matter yet."""
    remote_s, local_s = signals.remote_s, signals.pdp_queue_s
    return remote_s - local_s, params.queue_margin_s + params.queue_margin * min(remote_s, local_s)


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
    return signals.link_utilisation >= params.high_utilisation and signals.link_queue_s >= before.link_queue_s

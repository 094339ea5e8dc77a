"""The threshold as load and link change: the short one of the PrfaaS paper's two timescales (s3.4.3).

Decides from what was measured; knows neither who measured it nor how often it is asked.
"""

from dataclasses import dataclass, replace
from math import exp, floor, log2, sqrt

from prfaas.policy.deployment import Deployment
from prfaas.policy.lengths import Lengths
from prfaas.policy.pressure import Move, RetuneParams, pressure, remote_lead
from prfaas.policy.signals import Signals
from prfaas.policy.solve import solve
from prfaas.policy.split import Split, beyond, split

__all__ = ["RetuneParams", "Signals", "Solved", "Tuning", "retune"]

MAX_UNDONE = 6
"""Doublings of the time before the next way back."""
MAX_FINENESS = 3
MAX_STEPS = 4
"""That are taken at once where one side's wait is so much longer."""


@dataclass(frozen=True, slots=True)
class Solved:
    """What was found best, when, and for what."""

    best_tokens: int
    at_s: float
    deployment: Deployment
    n_p: int | None
    lambda_max: float
    """Requests/s that the deployment then keeps up with (Eq 6)."""


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
    """At the last look, so that one can tell whether a queue grows; the utilisation is smoothed."""
    moved: Move | None = None
    """The last change of the factor."""
    undone: int = 0
    """How often in succession a way back had to be taken back: what the model does not see is there to stay."""
    fineness: int = 0
    """So many times is a step halved, since the last ones led too far."""
    solved: Solved | None = None

    @classmethod
    def start(cls, threshold_tokens: int, at_s: float = 0.0) -> "Tuning":
        return cls(threshold_tokens, threshold_tokens, 1.0, at_s, f"threshold {threshold_tokens} to begin with")


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
    signals = _smoothed(tuning.seen, signals, params)
    looked = replace(tuning, seen=signals)
    if not lengths.mean:
        return looked
    measured = replace(deployment, egress_bytes_s=signals.egress_bytes_s)
    solved = tuning.solved
    if solved is None or not _holds(solved, signals, measured, n_p, params):
        found = solve(measured, lengths, n_p=n_p)
        solved = Solved(found.threshold_tokens, signals.at_s, measured, n_p, found.lambda_max)
        looked = replace(looked, solved=solved)
    best = solved.best_tokens
    if _jumps(tuning, best, params):
        # What the factor made up for was another situation.
        afresh = replace(looked, factor=1.0, moved=None, undone=0, fineness=0)
        return _changed(afresh, best, _why_best(best, signals, lengths))
    waited_s = signals.at_s - tuning.changed_s
    if waited_s >= params.settle_s and _drifts(tuning, best, params):
        return _changed(looked, best, _why_best(best, signals, lengths))
    params = _coarser(params, measured, split(measured, lengths, tuning.threshold_tokens))
    move, reason = pressure(tuning.factor, tuning.seen or signals, signals, params)
    wait_s = params.calm_s * 2 ** min(tuning.undone, MAX_UNDONE) if move == "back" else params.settle_s
    if move is None or waited_s < wait_s or not signals.egress_bytes_s or not _helps(move, tuning, lengths):
        return looked
    stepped = _stepped(looked, signals, move, params)
    return looked if stepped.factor == tuning.factor else _changed(stepped, tuning.best_tokens, reason)


def _holds(solved: Solved, signals: Signals, measured: Deployment, n_p: int | None, params: RetuneParams) -> bool:
    if solved.n_p != n_p or signals.at_s - solved.at_s >= params.solve_s:
        return False
    egress = measured.egress_bytes_s
    near = abs(egress - solved.deployment.egress_bytes_s) <= params.best_band * egress
    return near and replace(solved.deployment, egress_bytes_s=egress) == measured


def _smoothed(before: Signals | None, signals: Signals, params: RetuneParams) -> Signals:
    if before is None or not params.smooth_s:
        return signals
    kept = exp(-(signals.at_s - before.at_s) / params.smooth_s)
    now = signals.link_utilisation
    return replace(signals, link_utilisation=now + (before.link_utilisation - now) * kept)


def _coarser(params: RetuneParams, measured: Deployment, at: Split) -> RetuneParams:
    """With margins no finer than the grain of the load: a wait of one prompt's length is not a trend."""
    prompt_s = max(at.long_s, at.short_s)
    egress = measured.egress_bytes_s
    transfer_s = measured.remote.kv_bytes(at.long_tokens) / egress if egress and at.long_tokens else 0.0
    return replace(
        params,
        queue_margin_s=max(params.queue_margin_s, params.prompts * prompt_s),
        max_link_queue_s=max(params.max_link_queue_s, params.prompts * transfer_s),
    )


def _changed(tuning: Tuning, best: int, reason: str) -> Tuning:
    assert tuning.seen is not None
    threshold = round(best * tuning.factor)
    return replace(
        tuning,
        threshold_tokens=threshold,
        best_tokens=best,
        changed_s=tuning.seen.at_s,
        reason=f"{reason}: threshold {tuning.threshold_tokens} → {threshold}",
    )


def _apart(a: int, b: int) -> float:
    """How many times the smaller the larger is."""
    low, high = sorted((max(a, 1), max(b, 1)))
    return high / low


def _jumps(tuning: Tuning, best: int, params: RetuneParams) -> bool:
    return _apart(tuning.best_tokens, best) >= params.jump


def _drifts(tuning: Tuning, best: int, params: RetuneParams) -> bool:
    return _apart(tuning.best_tokens, best) > 1 + params.best_band


def _helps(move: Move, tuning: Tuning, lengths: Lengths) -> bool:
    """Beyond the longest and the shortest prompt a further step changes nothing now, and has to be taken back later."""
    if move == "raise":
        return 0 < tuning.threshold_tokens < beyond(lengths)
    return move == "back" or tuning.threshold_tokens > lengths.quantile(0.0)


def _stepped(tuning: Tuning, signals: Signals, move: Move, params: RetuneParams) -> Tuning:
    """One step, or several at once where waits are far apart; finer ones after a change of direction."""
    if move == "back":
        return _back(tuning, params)
    undone = tuning.undone + (tuning.moved == "back")
    fineness = tuning.fineness
    if {tuning.moved, move} == {"raise", "lower"}:
        fineness = min(fineness + 1, MAX_FINENESS)
    elif tuning.moved == move:
        fineness = max(fineness - 1, 0)
    lead_s, margin_s = remote_lead(signals, params)
    steps = 1 + floor(log2(min(max(abs(lead_s) / margin_s, 1.0), 2.0 ** (MAX_STEPS - 1))))
    ratio = params.step ** (steps / 2**fineness)
    factor = tuning.factor * (ratio if move == "raise" else 1 / ratio)
    factor = min(max(factor, params.min_factor), params.max_factor)
    return replace(tuning, factor=factor, moved=move, undone=undone, fineness=fineness)


def _back(tuning: Tuning, params: RetuneParams) -> Tuning:
    """Half the way, and all of it when that is one step."""
    near = 1 / params.step <= tuning.factor <= params.step
    undone = 0 if tuning.moved == "back" else tuning.undone
    return replace(tuning, factor=1.0 if near else sqrt(tuning.factor), moved="back", undone=undone)


def _why_best(best: int, signals: Signals, lengths: Lengths) -> str:
    if not signals.egress_bytes_s:
        return f"nothing gets through {signals.link}, so no prompt is to cross it"
    return f"best for {signals.egress()} and prompts of {lengths.mean:.0f} tokens on average is {best}"

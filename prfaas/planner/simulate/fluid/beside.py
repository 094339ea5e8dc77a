"""What prefill beside decodes takes, and what it adds to their steps: what `prfaas.scheduler.pace` comes to on average.

Knows no requests. The live pace learns from steps what is known here from the profile.
"""

from dataclasses import dataclass
from math import ceil, inf

from prfaas.planner.simulate.fluid.prompts import Turn
from prfaas.scheduler.pace import FLOOR_TOKENS, MOST_PAUSED, PROBE_STEPS, RARE_BELOW_TOKENS, RARE_UNTIL_TOKENS, STALL

_ROUNDING = 1e-6
"""Of floats, in tokens and in chunks."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Some prefill among decode steps."""

    seconds: float
    """Until it is done."""
    extra_s: float
    """That each decode step takes longer meanwhile; what prompts cost whatever their length delays them at once."""


def beside(turn: Turn, step_s: float, slowdown: float, page_tokens: int) -> Beside:
    """A turn of prompts beside decodes whose steps take `step_s` alone.

    A step carries the tokens that `slowdown` allows for, in whole pages; and one of so many carries none. What a prompt
    costs whatever its length comes at once, with its first chunk; the pace takes most of it for a stall, and makes
    prefill pause for the rest.
    """
    token_s = turn.work_s / turn.tokens
    allowed_s = bearable_s = (slowdown - 1) * step_s
    borne = bearable_s / token_s if token_s else inf
    if borne >= RARE_BELOW_TOKENS and borne < inf:
        unit = page_tokens if borne >= page_tokens else FLOOR_TOKENS
        bearable_s = min(bearable_s, max(FLOOR_TOKENS, (borne + _ROUNDING) // unit * unit) * token_s)
    # However little decodes bear, a prompt waits for no more than so many steps.
    carried_s = max(bearable_s, RARE_UNTIL_TOKENS * token_s / (MOST_PAUSED + 1))
    chunks = max(1, ceil(turn.work_s / carried_s - _ROUNDING)) if carried_s else 1
    pauses = _pauses(turn.overheads_s, carried_s, allowed_s) if chunks > 1 and turn.overheads_s else 0
    steps = chunks * (1 + 1 / PROBE_STEPS) + pauses
    return Beside(turn.work_s + turn.overheads_s + steps * step_s, turn.work_s / steps)


def _pauses(overheads_s: float, chunk_s: float, allowed_s: float) -> int:
    """Steps without prefill after one in which prompts began, until no more is owed than a step bears."""
    owed_s = min(overheads_s + chunk_s, STALL * chunk_s) - allowed_s
    return min(MOST_PAUSED, max(0, ceil(owed_s / allowed_s - 1))) if allowed_s else 0

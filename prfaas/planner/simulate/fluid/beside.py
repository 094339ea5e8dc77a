"""What prefill beside decodes takes, and what it adds to their steps: what `prfaas.scheduler.pace` comes to on average.

Knows no requests. The live pace learns from steps what is known here from the profile.
"""

from dataclasses import dataclass
from math import inf

from prfaas.planner.simulate.fluid.prompts import Turn
from prfaas.scheduler.pace import FLOOR_TOKENS, MOST_PAUSED, PROBE_STEPS, RARE_BELOW_TOKENS, RARE_UNTIL_TOKENS, STALL

_ROUNDING = 1e-6
"""Of floats, in tokens."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Some prefill among decode steps."""

    seconds: float
    """Until it is done."""
    extra_s: float
    """That each decode step takes longer meanwhile."""


def beside(turn: Turn, step_s: float, slowdown: float, page_tokens: int) -> Beside:
    """A turn of prompts beside decodes whose steps take `step_s` alone.

    A step carries the tokens that `slowdown` allows for, in whole pages; and one of so many carries none. What a prompt
    costs whatever its length comes at once, with its first chunk, and the pace takes most of it for a stall.
    """
    token_s = turn.work_s / turn.tokens
    bearable_s = (slowdown - 1) * step_s
    borne = bearable_s / token_s if token_s else inf
    if borne >= RARE_BELOW_TOKENS and borne < inf:
        unit = page_tokens if borne >= page_tokens else FLOOR_TOKENS
        bearable_s = min(bearable_s, max(FLOOR_TOKENS, (borne + _ROUNDING) // unit * unit) * token_s)
    # However little decodes bear, a prompt waits for no more than so many steps.
    carried_s = max(bearable_s, RARE_UNTIL_TOKENS * token_s / (MOST_PAUSED + 1))
    owed_s = turn.work_s + min(turn.overheads_s, (STALL - 1) * carried_s)
    steps = max(1.0, owed_s / carried_s if carried_s else 0.0) * (1 + 1 / PROBE_STEPS)
    work_s = turn.work_s + turn.overheads_s
    return Beside(work_s + steps * step_s, work_s / steps)

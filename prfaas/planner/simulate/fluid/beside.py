"""What prefill beside decodes takes, and what it adds to their steps: what `prfaas.scheduler.pace` comes to on average.

Knows no requests. The live pace learns from steps what is known here from the profile.
"""

from dataclasses import dataclass
from math import inf

from prfaas.scheduler.pace import FLOOR_TOKENS, MOST_PAUSED, PROBE_STEPS, RARE_BELOW_TOKENS, RARE_UNTIL_TOKENS

_ROUNDING = 1e-6
"""Of floats, in tokens."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Some prefill among decode steps."""

    seconds: float
    """Until it is done."""
    extra_s: float
    """That each decode step takes longer meanwhile."""


def beside(work_s: float, token_s: float, step_s: float, slowdown: float, page_tokens: int) -> Beside:
    """`work_s` of prefill, at `token_s` for each token, beside decodes whose steps take `step_s` alone.

    A step carries the tokens that `slowdown` allows for, in whole pages; and one of so many carries none.
    """
    bearable_s = (slowdown - 1) * step_s
    borne = bearable_s / token_s if token_s else inf
    if borne >= RARE_BELOW_TOKENS:
        unit = page_tokens if borne >= page_tokens else FLOOR_TOKENS
        bearable_s = min(bearable_s, max(FLOOR_TOKENS, (borne + _ROUNDING) // unit * unit) * token_s)
    # However little decodes bear, a prompt waits for no more than so many steps.
    carried_s = max(bearable_s, RARE_UNTIL_TOKENS * token_s / (MOST_PAUSED + 1))
    steps = max(1.0, work_s / carried_s) * (1 + 1 / PROBE_STEPS)
    return Beside(work_s + steps * step_s, work_s / steps)

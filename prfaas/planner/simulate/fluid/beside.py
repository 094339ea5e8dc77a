"""What prefill beside decodes takes, and what it adds to their steps: what `prfaas.scheduler.pace` comes to on average.

Knows no requests. The live pace learns from steps what is known here from the profile.
"""

from dataclasses import dataclass
from math import ceil, inf

from prfaas.scheduler.pace import (
    FLOOR_TOKENS,
    MOST_PAUSED,
    PROBE_STEPS,
    RARE_BELOW_TOKENS,
    RARE_UNTIL_TOKENS,
    STALL,
)

_ROUNDING = 1e-6
"""Of floats, in tokens and in chunks."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Some prefill among decode steps."""

    seconds: float
    """Until it is done."""
    extra_s: float
    """That each decode step takes longer meanwhile."""


def beside(
    work_s: float, overhead_s: float, token_s: float, step_s: float, slowdown: float, page_tokens: int
) -> Beside:
    """Prefill at `token_s` for each token, beside decodes whose steps take `step_s` alone.

    `work_s` is all of it; `overhead_s` of that is what prompts cost at their beginning, whatever their length. A step
    carries the tokens that `slowdown` allows for, in whole pages; and one of so many carries none. The overhead comes
    in one step, after which prefill pauses for a part of it: more than some chunks' worth counts as a stall.
    """
    allowed_s = bearable_s = (slowdown - 1) * step_s
    borne = bearable_s / token_s if token_s else inf
    if borne >= RARE_BELOW_TOKENS:
        unit = page_tokens if borne >= page_tokens else FLOOR_TOKENS
        bearable_s = min(bearable_s, max(FLOOR_TOKENS, (borne + _ROUNDING) // unit * unit) * token_s)
    # However little decodes bear, a prompt waits for no more than so many steps.
    carried_s = max(bearable_s, RARE_UNTIL_TOKENS * token_s / (MOST_PAUSED + 1))
    chunks = max(1, ceil((work_s - overhead_s) / carried_s - _ROUNDING))
    steps = chunks * (1 + 1 / PROBE_STEPS) + (_pauses(overhead_s, carried_s, allowed_s) if chunks > 1 else 0)
    return Beside(work_s + steps * step_s, work_s / steps)


def _pauses(overhead_s: float, chunk_s: float, allowed_s: float) -> int:
    """Steps without prefill after one that began a prompt, until no more is owed than a step bears."""
    owed_s = min(overhead_s + chunk_s, STALL * chunk_s) - allowed_s
    if owed_s <= allowed_s:
        return 0
    return min(MOST_PAUSED, ceil(owed_s / allowed_s - 1)) if allowed_s else MOST_PAUSED

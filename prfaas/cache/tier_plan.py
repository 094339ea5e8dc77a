"""What of a prefix is worth bringing from a slower tier. Pure decisions; does not know where the tier is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prfaas.cache.changes import Part
from prfaas.cache.match import Match
from prfaas.core.ids import BlockHash

Holds = Callable[[Part, BlockHash], bool]


@dataclass(frozen=True, slots=True)
class Missing:
    """Blocks [first, last) of a prompt, which lie in the slower tier, and the snapshot at the end of the last."""

    first: int
    last: int
    snapshot: bool
    gained_blocks: int
    """By which the usable prefix grows."""

    @property
    def blocks(self) -> range:
        return range(self.first, self.last)


def missing(
    hashes: Sequence[BlockHash], limit_blocks: int, match: Match, *, has_states: bool, holds: Holds
) -> Missing | None:
    """What makes the usable prefix longest, at most `limit_blocks`; None if the tier has nothing to add to `match`."""
    held, best = len(match.pages), match.usable_blocks
    for end in range(match.usable_blocks + 1, min(limit_blocks, len(hashes)) + 1):
        name = hashes[end - 1]
        if end > held and not holds("kv", name):
            break
        if not has_states or holds("state", name):
            best = end
    if best == match.usable_blocks:
        return None
    return Missing(min(held, best), best, has_states, best - match.usable_blocks)


def pays(num_bytes: int, bytes_per_s: float, gained_tokens: int, prefill_s_per_token: float) -> bool:
    """Whether bringing takes less time than computing. Without a measured prefill rate (0) the tier is preferred."""
    return prefill_s_per_token == 0.0 or num_bytes / bytes_per_s < gained_tokens * prefill_s_per_token

"""What a cached thing is worth: the smallest value is evicted first. Knows no pages and no tree, only what it is told.

"cost" is GreedyDual-Size-Frequency (Cherkasova, HP Labs 1998): value = clock + visits * cost / size. The clock is the
value of what was evicted last, as it stood when the thing was last visited; so what is not visited any more is
overtaken by all that comes later, however precious it was.
"""

from collections.abc import Callable
from typing import NamedTuple


class Candidate(NamedTuple):
    """A leaf of the tree of blocks, or a snapshot together with the KV that is of no use without it."""

    cost_tokens: int
    """What has to be computed again when a prompt comes that would have used it; 0 for KV below the last snapshot."""
    pages: int
    """What it occupies."""
    depth_tokens: int
    """From the prompt's start to its end."""
    inner: bool
    """A snapshot with blocks below it: evicting it frees no KV."""
    visits: int
    """Times it was stored (once) or used."""
    last_visit: int
    """Counts all visits to the cache."""
    clock: float
    """At its last visit."""


Priority = Callable[[Candidate], float]
"""May rise with a visit and must not fall with one: what it was before is taken as a lower bound."""


def cost(candidate: Candidate) -> float:
    """Tokens of prefill that each page saves, times visits, aged by the clock."""
    return candidate.clock + candidate.visits * candidate.cost_tokens / candidate.pages


def least_recently_used(candidate: Candidate) -> float:
    return candidate.last_visit


PRIORITIES: dict[str, Priority] = {"cost": cost, "lru": least_recently_used}

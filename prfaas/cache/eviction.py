"""What a cached thing is worth: the smallest value is evicted first. Knows no pages and no tree, only what it is told.

"cost" is GreedyDual-Size-Frequency (Cherkasova, HP Labs 1998): value = clock + visits * cost / size. The clock is the
value of what was evicted last, as it stood when the thing was last visited; so what is not visited any more is
overtaken by all that comes later, however precious it was.

To it comes what chains of snapshots teach. Whoever goes on from a snapshot leaves one further on, and who comes again
mostly comes for that one. So a snapshot with another below it is worth a small part of what its uses say: the ends of a
conversation's earlier turns, and spaced snapshots inside of prompts whose ends are held as well.
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
    """A snapshot with another one below it: evicting it frees no KV."""
    visits: int
    """Times it was stored (once) or used."""
    last_visit: int
    """Counts all visits to the cache."""
    clock: float
    """At its last visit."""


_INNER_SHARE = 1 / 32
"""Any small share does: on a conversation trace 1/10 and 1/50 differ by 1 % of the hit rate (docs/benchmarks.md)."""

Priority = Callable[[Candidate], float]
"""May rise with a visit and must not fall with one: what it was before is taken as a lower bound."""


def cost(candidate: Candidate) -> float:
    """Tokens of prefill that each page is expected to save, aged by the clock."""
    visits = candidate.visits * (_INNER_SHARE if candidate.inner else 1)
    return candidate.clock + visits * candidate.cost_tokens / candidate.pages


def least_recently_used(candidate: Candidate) -> float:
    return candidate.last_visit


PRIORITIES: dict[str, Priority] = {"cost": cost, "lru": least_recently_used}

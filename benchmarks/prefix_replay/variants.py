"""Replays of one trace: without a limit, and with pools and orders of eviction to compare. One row each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.prefix_replay.replay import replay
from benchmarks.prefix_replay.trace import TracedPrompt, distinct_ids, total_tokens
from prfaas.cache.layout import PageLayout
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.planner.simulate.arrival import ID_TOKENS

Cached = Literal["KV and states", "KV only"]
"""What a model needs of a prefix."""


@dataclass(frozen=True, slots=True)
class Variant:
    """`pool_blocks`: of 512 tokens' KV each; None: nothing is ever evicted."""

    cached: Cached
    pool_blocks: int | None = None
    eviction: Literal["cost", "lru"] = "cost"
    tails: bool = False

    @property
    def name(self) -> str:
        return self.cached + (", partial ids too" if self.tails else "")


def variants(pool_blocks: int) -> list[Variant]:
    """The bound, what the snapshots leave of it, and pools of the given size, half and twice of it."""
    unlimited = [Variant("KV only"), Variant("KV and states"), Variant("KV and states", tails=True)]
    limited = [
        Variant("KV and states", size, eviction)
        for size in (pool_blocks // 2, pool_blocks, pool_blocks * 2)
        for eviction in ("lru", "cost")
    ]
    return [*unlimited, *limited, *(Variant("KV only", pool_blocks, eviction) for eviction in ("lru", "cost"))]


def measure(variant: Variant, trace: Sequence[TracedPrompt], layout: PageLayout, every_tokens: int) -> dict[str, Any]:
    """Replays the trace from an empty cache."""
    block = layout.page_tokens
    state_pages = 0 if variant.cached == "KV only" else layout.state_pages
    if variant.pool_blocks is None:
        # Where nothing is evicted, one page will do for a snapshot: the pool's columns stay small.
        held_pages = min(state_pages, 1)
        size = _pages_of_all(trace, block, every_tokens)
    else:
        held_pages, size = state_pages, variant.pool_blocks * ID_TOKENS // block
    cache = PrefixCache(PagePool(size), block_tokens=block, state_pages=held_pages, eviction=variant.eviction)
    policy = SnapshotPolicy(block, every_tokens)
    start_s = time.perf_counter()
    tally = replay(trace, cache, policy, tails=variant.tails)
    assert variant.pool_blocks is not None or not cache.evicted_blocks + cache.evicted_snapshots
    return {
        "name": variant.name,
        "pool_blocks": variant.pool_blocks,
        "eviction": variant.eviction if variant.pool_blocks else None,
        "hit_rate": tally.hit_rate,
        "snapshots_taken": tally.snapshots,
        "snapshot_bytes": cache.snapshots * state_pages * layout.page_bytes,
        "kv_bytes": cache.blocks * layout.page_bytes,
        "seconds": time.perf_counter() - start_s,
    }


def _pages_of_all(trace: Sequence[TracedPrompt], block_tokens: int, every_tokens: int) -> int:
    """Enough for every block once, one page for each snapshot, and the longest prompt beside them."""
    blocks = distinct_ids(trace) * (ID_TOKENS // block_tokens)
    snapshots = 2 * len(trace) + (total_tokens(trace) // every_tokens if every_tokens else 0)
    return blocks + snapshots + max(prompt.tokens for prompt in trace) // block_tokens + 2

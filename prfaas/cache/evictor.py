"""Takes back what is worth least: leaves of the tree of blocks, and snapshots. Does not know who asks, nor for what.

A heap holds one entry for each block at which something could be evicted. Values rise between two looks, so an entry is
a lower bound and put right when it comes up: a visit costs nothing here. Whoever makes a thing worth less says so.

A leaf with a snapshot is judged as the snapshot and all KV that leads only to it, because neither is of use without the
other. The snapshot goes first; its KV is then worth nothing, and follows as pages are needed.
"""

from array import array
from dataclasses import dataclass, field
from heapq import heappop, heappush

from prfaas.cache.block_tree import BlockTree
from prfaas.cache.eviction import Candidate, Priority
from prfaas.cache.pool import PagePool
from prfaas.cache.visits import Visits
from prfaas.core.errors import PoolError
from prfaas.core.ids import BlockHash

Rank = tuple[float, int]
"""A value and the last visit: of many that are worth the same, as blocks of prompts used once are, the oldest goes."""


@dataclass(slots=True)
class Evicted:
    """Blocks, deepest of each prompt first, and blocks that lost their snapshot."""

    blocks: list[BlockHash] = field(default_factory=list)
    snapshots: list[BlockHash] = field(default_factory=list)


class Evictor:
    """`kv_cost_tokens`: what a leaf's KV without a snapshot saves who comes again; 0 where states are needed too."""

    def __init__(
        self,
        pool: PagePool,
        tree: BlockTree,
        visits: Visits,
        priority: Priority,
        block_tokens: int,
        kv_cost_tokens: int,
    ) -> None:
        self._pool = pool
        self._tree = tree
        self._visits = visits
        self._priority = priority
        self._block_tokens = block_tokens
        self._kv_cost_tokens = kv_cost_tokens
        self._heap: list[tuple[float, int, int, int]] = []
        self._pushes = 0
        # By block: which push is its entry, 0 if none is. An entry of the heap that is not its block's is passed over.
        self._queued = array("q", bytes(8 * pool.size))

    def offer(self, block: int) -> None:
        """To be called whenever pages of a block or its snapshot became idle, or its last child went."""
        if not self._queued[block] and self._tree.has_end(block):
            candidate = self._candidate(block)
            if candidate is not None:
                self._push(self._rank(candidate), block)

    def devalue(self, block: int) -> None:
        """To be called when a block's value may have fallen below that of its entry."""
        self.withdraw(block)
        self.offer(block)

    def withdraw(self, block: int) -> None:
        """To be called when a block or its snapshot goes otherwise; its entry stays behind and is passed over."""
        self._queued[block] = 0

    def evict(self, num_pages: int) -> Evicted:
        """Frees that many pages, at least, if so many are idle."""
        gone, enough = Evicted(), self._pool.free + num_pages
        while self._heap and self._pool.free < enough:
            value, last_visit, block, push = heappop(self._heap)
            if self._queued[block] != push:
                continue
            self._queued[block] = 0
            candidate = self._candidate(block)
            if candidate is None:
                continue
            current = self._rank(candidate)
            if current > (value, last_visit) and self._heap and current > self._heap[0][:2]:
                self._push(current, block)
                continue
            self._visits.clock = max(self._visits.clock, current[0])
            self._drop(block, enough - self._pool.free, gone)
        return gone

    def check(self) -> None:
        """Raises PoolError unless all that could be evicted is queued, once."""
        entries = sorted(block for _, _, block, push in self._heap if self._queued[block] == push)
        if entries != [b for b, queued in enumerate(self._queued) if queued]:
            raise PoolError("a block is queued for eviction twice, or not as noted")
        lost = [b for b in self._tree if not self._queued[b] and self._candidate(b) is not None]
        if lost:
            raise PoolError(f"blocks in pages {lost} could be evicted and are not queued")

    def _push(self, rank: Rank, block: int) -> None:
        self._pushes += 1
        self._queued[block] = self._pushes
        heappush(self._heap, (*rank, block, self._pushes))

    def _rank(self, candidate: Candidate) -> Rank:
        return self._priority(candidate), candidate.last_visit

    def _candidate(self, block: int) -> Candidate | None:
        tree = self._tree
        snapshot = tree.snapshots.get(block)
        if snapshot is not None and self._pool.any_idle(snapshot.pages):
            blocks, alone = tree.reach(block)
            return Candidate(
                blocks * self._block_tokens,
                len(snapshot.pages) + alone,
                tree.depth(block) * self._block_tokens,
                tree.superseded(block),
                snapshot.visits,
                snapshot.last_visit,
                snapshot.clock,
            )
        if tree.is_leaf(block) and self._pool.is_idle(block):
            depth_tokens = tree.depth(block) * self._block_tokens
            return Candidate(self._kv_cost_tokens, 1, depth_tokens, False, *self._visits.of(block))
        return None

    def _snapshot_idle(self, block: int) -> bool:
        snapshot = self._tree.snapshots.get(block)
        return snapshot is not None and self._pool.any_idle(snapshot.pages)

    def _drop(self, block: int, num_pages: int, gone: Evicted) -> None:
        if self._snapshot_idle(block):
            self._drop_snapshot(block, gone)
            self.offer(block)
            return
        if block in self._tree.snapshots:
            # Somebody reads the snapshot's pages and keeps them; the index cannot, without the KV.
            self._drop_snapshot(block, gone)
        parent = self._drop_run(block, num_pages, gone)
        if parent is not None:
            self.offer(parent)

    def _drop_snapshot(self, block: int, gone: Evicted) -> None:
        self._pool.drop(self._tree.remove_snapshot(block).pages)
        gone.snapshots.append(self._tree.hash(block))

    def _drop_run(self, leaf: int, num_pages: int, gone: Evicted) -> int | None:
        """A leaf, and upwards what has no use of its own: all of equal value. Returns the block that it ends below."""
        tree, pool, visits = self._tree, self._pool, self._visits
        line = tree.line(leaf, num_pages)
        end = min(pool.idle_until(line), visits.unused_until(line, 1))
        run = line[:end]
        parent = tree.parent(run[-1])
        if parent is not None:
            visits.inherit(parent, leaf)
        gone.blocks += tree.remove(run)
        pool.drop(run)
        return parent

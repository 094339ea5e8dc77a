"""What stays of prompts after their requests: KV blocks and state snapshots by hash, in pages of the pool.

A prefix can be used up to the longest point at which all its KV blocks are held and, in models with linear states, a
snapshot too. Knows pages, not memory; reads no clock. Whoever holds a block holds all blocks before it, so that what
nobody holds can be evicted from the leaves up, and no prompt ever has a hole.
"""

from collections.abc import Iterable, Sequence

from prfaas.cache.block_tree import BlockTree, Snapshot
from prfaas.cache.changes import Change, Cleared, Removed, Stored
from prfaas.cache.eviction import PRIORITIES
from prfaas.cache.evictor import Evictor
from prfaas.cache.leases import LeaseId, Leases
from prfaas.cache.match import Match
from prfaas.cache.pool import PagePool
from prfaas.cache.visits import Visits
from prfaas.core.errors import LeaseError, PoolError, UnknownBlockError
from prfaas.core.ids import BlockHash


class PrefixCache:
    """Gives out the pool's pages, keeps what is inserted, and evicts it when pages are needed.

    `state_pages`: pages of a snapshot, 0 for models without linear states. `eviction`: a name in `PRIORITIES`. A cache
    that is not `enabled` keeps nothing and finds nothing. `record_changes`: whether `take_changes` is ever called.
    """

    def __init__(
        self,
        pool: PagePool,
        *,
        block_tokens: int,
        state_pages: int,
        eviction: str = "cost",
        enabled: bool = True,
        record_changes: bool = False,
    ) -> None:
        self.pool = pool
        self.block_tokens = block_tokens
        self.state_pages = state_pages
        self.enabled = enabled
        self._record_changes = record_changes
        self._tree = BlockTree(pool.size)
        self._visits = Visits(pool.size)
        kv_cost_tokens = 0 if state_pages else block_tokens
        self._evictor = Evictor(pool, self._tree, self._visits, PRIORITIES[eviction], block_tokens, kv_cost_tokens)
        self._leases = Leases()
        self._changes: list[Change] = []
        self._evictions = 0
        self.evicted_blocks = 0
        self.evicted_snapshots = 0
        self.skipped_snapshots = 0
        """Snapshots that were due, and for which there was no room; counted by whoever takes them."""
        self.unknown_blocks = 0
        """Calls refused because they named blocks that are not, or no longer, held."""
        self.stale_leases = 0
        """Leases ended that had ended before."""

    @property
    def available(self) -> int:
        """Pages that `allocate` can give now: free or idle."""
        return self.pool.free + self.pool.idle

    @property
    def blocks(self) -> int:
        return len(self._tree)

    @property
    def snapshots(self) -> int:
        return len(self._tree.snapshots)

    @property
    def cached_pages(self) -> int:
        """Pages that the index refers to, in use or not."""
        return self.pool.kept

    @property
    def idle_pages(self) -> int:
        """Pages that only the index refers to."""
        return self.pool.idle

    @property
    def version(self) -> int:
        """Rises with whatever may change what `match` finds."""
        return self._visits.now + self._evictions

    @property
    def leases(self) -> int:
        return len(self._leases)

    def allocate(self, count: int) -> tuple[int, ...] | None:
        """`count` pages, one reference each; evicts as needed. None, and nothing changed, beyond `available`."""
        missing = count - self.pool.free
        if missing > self.pool.idle:
            return None
        if missing > 0:
            blocks, snapshots = self._evict(missing)
            self.evicted_blocks += blocks
            self.evicted_snapshots += snapshots
        return self.pool.allocate(count)

    def release(self, pages: Iterable[int]) -> None:
        """A holder gives references back: all that it has on a prompt's pages in one call, so that order is no matter.

        What is cached stays so. Raises PoolError, and changes nothing, for a page that nobody holds (so often).
        """
        idle = self.pool.release(pages)
        if idle:
            for block in self._tree.owners(idle):
                self._evictor.offer(block)

    def match(self, hashes: Sequence[BlockHash], limit_blocks: int | None = None) -> Match:
        """What is held of a prompt whose blocks have these hashes, from the first on. Changes nothing.

        `limit_blocks` bounds what is usable (a request must compute one token at least), not `pages`.
        """
        pages = self._tree.leading(hashes)
        if not pages:
            return Match(evictions=self._evictions)
        usable = len(pages) if limit_blocks is None else min(len(pages), limit_blocks)
        snapshot: tuple[int, ...] = ()
        if self.state_pages:
            snapshots = self._tree.snapshots
            while usable and pages[usable - 1] not in snapshots:
                usable -= 1
            snapshot = snapshots[pages[usable - 1]].pages if usable else ()
        branch = 0 if self._tree.is_leaf(pages[-1]) else len(pages)
        return Match(tuple(pages), usable, snapshot, branch, self._evictions)

    def holds(self, hashes: Sequence[BlockHash]) -> bool:
        """Whether all of these blocks are held; a first look before `match`."""
        return all(map(self._tree.__contains__, hashes))

    def pin_cost(self, match: Match, blocks: int, snapshot: bool) -> int:
        """Pages that `pin` would take from `available`."""
        return sum(map(self.pool.is_idle, self._pinned(match, blocks, snapshot)))

    def pin(self, match: Match, blocks: int, snapshot: bool) -> tuple[int, ...]:
        """One reference on the first `blocks` pages, and on the snapshot's if asked; counts as a visit.

        Returns the KV pages. Raises UnknownBlockError, and takes nothing, if something was evicted since the match:
        its pages may hold another prompt by now.
        """
        pages = self._pinned(match, blocks, snapshot)
        if pages and match.evictions != self._evictions:
            raise self._unknown("a match is older than the last eviction")
        self.pool.share(pages)
        self._visits.tick()
        if blocks:
            self._visits.note(match.pages[blocks - 1])
        if snapshot and match.snapshot:
            used = self._tree.snapshots[match.pages[match.usable_blocks - 1]]
            used.visits, used.last_visit, used.clock = used.visits + 1, self._visits.now, self._visits.clock
        return match.pages[:blocks]

    def insert_blocks(
        self,
        parent: BlockHash | None,
        hashes: Sequence[BlockHash],
        pages: Sequence[int],
        tokens: Sequence[tuple[int, ...]],
    ) -> tuple[int, ...]:
        """Blocks that the caller computed in pages of its own, in order, after `parent` (None: from a prompt's start).

        The index takes a reference on each page whose block is new. Where a block is held already in another page, the
        caller gets a reference on that page and keeps its own to itself; those pages are returned, to be released with
        the caller's others. Raises UnknownBlockError if `parent` is not held, or a block is known after another parent;
        PoolError if a page is not the caller's to give. Either way nothing is changed.
        """
        assert len(set(hashes)) == len(hashes) == len(pages) == len(tokens)
        if not self.enabled or not hashes:
            return ()
        above = self._parent(parent)
        known = self._known_chain(above, hashes)
        new, new_pages = len(known), pages[len(known) :]
        self.pool.keep(new_pages)
        shared = tuple(held for page, held in zip(pages, known, strict=False) if held != page)
        self.pool.share(shared)
        self._visits.tick()
        if known:
            self._visits.touch(known)
            above, parent = known[-1], hashes[new - 1]
        if new_pages:
            self._tree.extend(above, hashes[new:], new_pages)
            self._visits.begin(new_pages)
            if self._record_changes:
                self._changes += [
                    Stored("kv", name, before, block_tokens)
                    for before, name, block_tokens in zip(
                        (parent, *hashes[new:-1]), hashes[new:], tokens[new:], strict=True
                    )
                ]
        return shared

    def hold(self, pages: Iterable[int]) -> tuple[int, ...]:
        """One more reference on each of these pages and on the blocks before them. It is no visit.

        Returns all that was referenced, to be released in one call. PoolError if one of the pages is not allocated.
        """
        held = dict.fromkeys(pages)
        for page in tuple(held):
            block = self._tree.parent(page) if self._tree.owner(page) == page else None
            while block is not None and block not in held:
                held[block] = None
                block = self._tree.parent(block)
        self.pool.share(held)
        return tuple(held)

    def forget(self, hashes: Sequence[BlockHash]) -> frozenset[BlockHash]:
        """Drops these blocks, all blocks that follow them, and their snapshots. Returns the names of the blocks.

        Whoever holds their pages keeps them, but cannot insert what follows. Unknown hashes are ignored. It looks at
        every block that is held.
        """
        known = (self._tree.page(name) for name in hashes)
        gone = []
        for block in reversed(self._tree.below(page for page in known if page is not None)):
            name = self._tree.hash(block)
            gone.append(name)
            if block in self._tree.snapshots:
                self.pool.drop(self._tree.remove_snapshot(block).pages)
                self._changed(Removed("state", name))
            self._evictor.withdraw(block)
            self._forget_leaf(block)
            self._evictions += 1
        return frozenset(gone)

    def snapshot_pages(self, block_hash: BlockHash) -> tuple[int, ...]:
        """Of the snapshot at a block's end; empty if there is none."""
        block = self._tree.page(block_hash)
        snapshot = None if block is None else self._tree.snapshots.get(block)
        return () if snapshot is None else snapshot.pages

    def has_snapshot(self, block_hash: BlockHash) -> bool:
        return self._tree.page(block_hash) in self._tree.snapshots

    def insert_snapshot(self, block_hash: BlockHash, pages: Sequence[int]) -> bool:
        """The states at a block's end, which nobody writes again. Takes a reference on each page.

        False, and nothing taken, if the block has one. Raises UnknownBlockError if the block is not held, PoolError if
        a page is not the caller's to give.
        """
        if not self.enabled or not self.state_pages:
            return False
        assert len(pages) == self.state_pages
        block = self._tree.page(block_hash)
        if block is None:
            raise self._unknown(f"snapshot of block {block_hash.hex()}, which is not held")
        if block in self._tree.snapshots:
            return False
        self.pool.keep(pages)
        self._visits.tick()
        above = self._tree.add_snapshot(block, Snapshot(tuple(pages), self._visits.now, self._visits.clock))
        if above is not None:
            self._evictor.devalue(above)
        self._changed(Stored("state", block_hash, self._tree.parent_hash(block), ()))
        return True

    def supersede(self, block_hash: BlockHash) -> None:
        """Drops a snapshot for which its owner has a later one, unless somebody uses it or has used it."""
        block = self._tree.page(block_hash)
        snapshot = None if block is None else self._tree.snapshots.get(block)
        if block is None or snapshot is None or snapshot.visits > 1 or not all(map(self.pool.is_idle, snapshot.pages)):
            return
        self.pool.drop(self._tree.remove_snapshot(block).pages)
        self._changed(Removed("state", block_hash))
        self._evictor.withdraw(block)
        self._evictor.offer(block)
        self._evictions += 1

    def lease(self, hashes: Sequence[BlockHash], until_s: float) -> LeaseId | None:
        """Pins what is usable of a prompt that will come, until then; None if nothing is. It is no visit."""
        match = self.match(hashes)
        if not match.usable_blocks:
            return None
        pages = self._pinned(match, match.usable_blocks, True)
        self.pool.share(pages)
        return self._leases.begin(pages, until_s)

    def is_leased(self, lease: LeaseId) -> bool:
        """Whether a lease is not over yet."""
        return lease in self._leases

    def end_lease(self, lease: LeaseId) -> None:
        """Raises LeaseError if it was never given, or is over."""
        try:
            pages = self._leases.end(lease)
        except LeaseError:
            self.stale_leases += 1
            raise
        self.release(pages)

    def expire_leases(self, now_s: float) -> int:
        """Ends those whose time is over, and says how many they were."""
        over = self._leases.over(now_s)
        for lease in over:
            self.end_lease(lease)
        return len(over)

    def take_changes(self) -> list[Change]:
        """What happened since the last call, in order."""
        taken, self._changes = self._changes, []
        return taken

    def holdings(self) -> list[Stored]:
        """All that is held, parents first; without the blocks' tokens, which the index does not keep."""
        tree, held = self._tree, []
        for block in tree:
            name, parent = tree.hash(block), tree.parent_hash(block)
            held.append(Stored("kv", name, parent, ()))
            if block in tree.snapshots:
                held.append(Stored("state", name, parent, ()))
        return held

    def clear(self) -> None:
        """Drops all that nobody uses."""
        if self.pool.idle:
            self._evict(self.pool.idle)
        if self._record_changes and not self.blocks:
            self._changes = [Cleared()]

    def check(self) -> None:
        """Raises PoolError unless every invariant holds."""
        self.pool.check()
        self._tree.check()
        self._evictor.check()
        cached = self.blocks + self.snapshots * self.state_pages
        if cached != self.pool.kept:
            raise PoolError(f"{self.pool.kept} pages kept for {cached} that are cached")
        for block in self._tree:
            parent = self._tree.parent(block)
            if parent is not None and self.pool.is_idle(parent) and not self.pool.is_idle(block):
                raise PoolError(f"page {block} is held, and {parent} with the block before it is not")

    def _evict(self, num_pages: int) -> tuple[int, int]:
        """Blocks and snapshots evicted."""
        gone = self._evictor.evict(num_pages)
        if self._record_changes:
            self._changes += [Removed("state", name) for name in gone.snapshots]
            self._changes += [Removed("kv", name) for name in gone.blocks]
        self._evictions += len(gone.blocks) + len(gone.snapshots)
        return len(gone.blocks), len(gone.snapshots)

    def _pinned(self, match: Match, blocks: int, snapshot: bool) -> tuple[int, ...]:
        assert 0 <= blocks <= len(match.pages)
        return match.pages[:blocks] + (match.snapshot if snapshot else ())

    def _forget_leaf(self, block: int) -> None:
        parent, gone = self._tree.parent(block), self._tree.remove([block])
        self.pool.drop([block])
        self._changed(Removed("kv", gone[0]))
        if parent is not None:
            self._evictor.offer(parent)

    def _changed(self, change: Change) -> None:
        if self._record_changes:
            self._changes.append(change)

    def _parent(self, parent: BlockHash | None) -> int | None:
        if parent is None:
            return None
        page = self._tree.page(parent)
        if page is None:
            raise self._unknown(f"blocks after {parent.hex()}, which is not held")
        if self.pool.is_idle(page):
            raise PoolError(f"blocks after {parent.hex()}, which is held by nobody and may be evicted")
        return page

    def _known_chain(self, above: int | None, hashes: Sequence[BlockHash]) -> list[int]:
        """Pages of the leading blocks that are held after each other; nothing behind them may be held."""
        known, stray = self._tree.leading_after(above, hashes)
        if stray is not None:
            raise self._unknown(f"block {self._tree.hash(stray).hex()} is known after another one")
        return known

    def _unknown(self, fault: str) -> UnknownBlockError:
        self.unknown_blocks += 1
        return UnknownBlockError(fault)

"""What sequences hold: pages that grow with them, pages of their linear state, and what they share with the cache.

Does not know who should have memory first.
"""

from collections.abc import Iterable

from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.scheduler.plan import Chunk
from prfaas.scheduler.sequence import Sequence

PLENTIFUL_SHARE = 4
"""States are kept while decoding if at least one page in so many is left."""
WATERMARK_SHARE = 16
"""At most one page in so many stays free at an admission."""


def watermark_pages(num_growing: int, num_pages: int) -> int:
    """Pages to leave free at an admission: one for each sequence that grows already, up to 1/16 of the pool.

    Without it a newcomer would take the last pages, and lose them to a decode a few steps later. It is 0 when nothing
    grows, so that a request which needs the whole pool gets in when it is alone.
    """
    return min(num_growing, -(-num_pages // WATERMARK_SHARE))


class SequenceMemory:
    """Takes pages from the cache's pool for a sequence, and gives back."""

    def __init__(self, cache: PrefixCache, snapshots: SnapshotPolicy) -> None:
        self._cache = cache
        self._snapshots = snapshots
        self._page_tokens = cache.block_tokens

    @property
    def num_pages(self) -> int:
        """Of the whole pool."""
        return self._cache.pool.size

    @property
    def situation(self) -> tuple[int, int]:
        """While it is the same, and nothing else pins or lets go, `reserve` gives the same answer."""
        return self._cache.available, self._cache.version

    def pages_for(self, tokens: int) -> int:
        """Of a sequence that has so many: KV and state."""
        return self._kv_pages(tokens) + self._cache.state_pages

    def usable_tokens(self, sequence: Sequence) -> int:
        """Leading tokens that it would not have to compute if it were admitted now."""
        return self._cache.match(sequence.hashes, self._usable_blocks(sequence)).usable_blocks * self._page_tokens

    def reserve(self, sequence: Sequence, keep_free: int, *, reuse: bool = True) -> bool:
        """Pages for all tokens it has and for its state, together or none; False unless `keep_free` pages remain.

        With `reuse`, what the cache has of its prefix is shared: of an import all KV, since states will come; of any
        other sequence as much as has a snapshot, from which its first chunk goes on. The snapshot's pages come on top.
        """
        cache = self._cache
        match = cache.match(sequence.hashes if reuse else (), self._usable_blocks(sequence))
        imports = sequence.imports_prompt
        blocks = len(match.pages) if imports else match.usable_blocks
        needed = self.pages_for(sequence.num_tokens) - blocks
        # What was found may count among the pages that are available.
        if cache.available - cache.pin_cost(match, blocks, snapshot=not imports) < needed + keep_free:
            return False
        pinned = cache.pin(match, blocks, snapshot=not imports)
        fresh = cache.allocate(needed)
        assert fresh is not None
        kv_pages = needed - cache.state_pages
        sequence.pages, sequence.state_pages = pinned + fresh[:kv_pages], fresh[kv_pages:]
        sequence.state_source = () if imports else match.snapshot
        sequence.named_blocks = blocks
        sequence.held_tokens = blocks * self._page_tokens
        sequence.lossy_tokens = cache.pool.marked_until(pinned) * self._page_tokens
        sequence.lossy_state = any(map(cache.pool.lossy, sequence.state_source))
        sequence.computed_tokens = sequence.cached_tokens = 0 if imports else sequence.held_tokens
        sequence.last_snapshot = sequence.computed_tokens
        sequence.snapshots_at = self._positions(sequence, branch_tokens=match.branch_blocks * self._page_tokens)
        return True

    def grow(self, sequence: Sequence) -> bool:
        """Room for one more computed token; False if that takes a page and none can be had."""
        if sequence.computed_tokens < len(sequence.pages) * self._page_tokens:
            return True
        page = self._cache.allocate(1)
        if page is None:
            return False
        sequence.pages += page
        return True

    def snapshot(self, sequence: Sequence, tokens: int, keep_free: int) -> tuple[int, ...] | None:
        """Pages for a snapshot after `tokens` tokens that the step under way writes.

        None if there is one already, or if less than `keep_free` pages would remain.
        """
        cache = self._cache
        if cache.has_snapshot(sequence.hashes[tokens // self._page_tokens - 1]):
            return None
        room = cache.available >= cache.state_pages + keep_free
        pages = cache.allocate(cache.state_pages) if room else None
        if pages is None:
            cache.skipped_snapshots += 1
        else:
            sequence.planned_snapshots.append(pages)
        return pages

    def leave_state(self, sequence: Sequence, keep_free: int) -> bool:
        """Whether a decode leaves its present states as a snapshot; pages for its next ones are planned then.

        Only while memory is plentiful: a request that runs then has its state twice.
        """
        cache, tokens = self._cache, sequence.computed_tokens
        if not cache.state_pages or not cache.enabled or sequence.private:
            return False
        if not self._snapshots.while_decoding(tokens, sequence.last_snapshot):
            return False
        if cache.available < cache.state_pages + cache.pool.size // PLENTIFUL_SHARE:
            return False
        return self.snapshot(sequence, tokens, keep_free) is not None

    def computed(self, sequence: Sequence, chunk: Chunk) -> None:
        """The cache learns what a chunk that ended at `computed_tokens` has left."""
        if chunk.leaves_state:
            self._left_state(sequence, chunk)
        self._share_blocks(sequence)
        if sequence.state_source:
            self._cache.release(sequence.state_source)
            sequence.state_source = ()
        if chunk.state_to in sequence.planned_snapshots:
            sequence.planned_snapshots.remove(chunk.state_to)
            sequence.state_source = chunk.state_to
            self._insert_snapshot(sequence, chunk.end, chunk.state_to)

    def imported(self, sequence: Sequence, *, lossy: bool) -> None:
        """The cache learns of a prompt whose KV has come from elsewhere; of `lossy` KV it remembers that."""
        if lossy:
            self._cache.pool.mark_lossy(sequence.pages[sequence.held_tokens // self._page_tokens :])
            sequence.lossy_state = True
        self._share_blocks(sequence)

    def keep_arrived(self, sequence: Sequence, verified_tokens: int, *, lossy: bool) -> range | None:
        """An import that failed goes on from what arrived of it, and the tokens that it need not compute for that.

        None, and nothing changed, where that is of no use: with linear states, or rings of windows, a prefill can only
        go on where those are known, and they arrive at the end. Whole pages count, so that chunks begin where pages do,
        and one token at least is computed, so that the next one can be drawn. Of `lossy` KV it is remembered.
        """
        kept = min(verified_tokens // self._page_tokens, self._usable_blocks(sequence)) * self._page_tokens
        if self._cache.state_pages or kept <= max(sequence.held_tokens, self.usable_tokens(sequence)):
            return None
        sequence.computed_tokens, sequence.cached_tokens = kept, sequence.held_tokens
        sequence.verified_tokens = kept - sequence.held_tokens
        if lossy:
            arrived = slice(sequence.held_tokens // self._page_tokens, kept // self._page_tokens)
            self._cache.pool.mark_lossy(sequence.pages[arrived])
        return range(sequence.held_tokens, kept)

    def free(self, sequence: Sequence) -> None:
        """Takes everything back; what the cache holds of it stays there."""
        snapshots = [page for pages in sequence.planned_snapshots for page in pages]
        self._cache.release(
            (*sequence.pages, *sequence.duplicates, *sequence.state_pages, *sequence.state_source, *snapshots)
        )
        sequence.pages = sequence.duplicates = sequence.state_pages = sequence.state_source = ()
        sequence.planned_snapshots.clear()
        sequence.private = False
        sequence.named_blocks = sequence.computed_tokens = sequence.verified_tokens = 0

    def forget(self, sequence: Sequence, others: Iterable[Sequence]) -> None:
        """The cache drops all blocks of this sequence, and what follows them, since some of them proved wrong.

        Which of them, nobody knows: what was cached may stem from a request that was given up before its logits were
        seen. Those of `others` that build on them keep what they have, and share no more.
        """
        gone = self._cache.forget(sequence.hashes[: sequence.named_blocks])
        for other in others:
            if not gone.isdisjoint(other.hashes[: other.named_blocks]):
                other.private = True

    def _share_blocks(self, sequence: Sequence) -> None:
        first, last = sequence.named_blocks, sequence.computed_tokens // self._page_tokens
        if first == last or sequence.private or not self._cache.enabled:
            return
        fresh = sequence.tokens(first * self._page_tokens, last * self._page_tokens)
        tokens = [fresh[start : start + self._page_tokens] for start in range(0, len(fresh), self._page_tokens)]
        sequence.extend_hashes(last, self._page_tokens)
        parent = sequence.hashes[first - 1] if first else None
        names = sequence.hashes[first:last]
        sequence.duplicates += self._cache.insert_blocks(parent, names, sequence.pages[first:last], tokens)
        sequence.named_blocks = last

    def _left_state(self, sequence: Sequence, chunk: Chunk) -> None:
        left, sequence.state_pages = sequence.state_pages, chunk.state_to
        sequence.planned_snapshots.remove(chunk.state_to)
        if self._insert_snapshot(sequence, chunk.start, left):
            if sequence.answer_snapshot is not None:
                self._cache.supersede(sequence.answer_snapshot)
            sequence.answer_snapshot = sequence.hashes[chunk.start // self._page_tokens - 1]
        self._cache.release(left)

    def _insert_snapshot(self, sequence: Sequence, tokens: int, pages: tuple[int, ...]) -> bool:
        sequence.last_snapshot = tokens
        if sequence.lossy_state:
            self._cache.pool.mark_lossy(pages)
        name = sequence.hashes[tokens // self._page_tokens - 1]
        return not sequence.private and self._cache.insert_snapshot(name, pages)

    def _positions(self, sequence: Sequence, branch_tokens: int) -> tuple[int, ...]:
        if not self._cache.state_pages or not self._cache.enabled:
            return ()
        return self._snapshots.positions(sequence.computed_tokens, sequence.num_tokens, branch_tokens)

    def _usable_blocks(self, sequence: Sequence) -> int:
        """At least one token is computed, so that the next one can be drawn."""
        return (sequence.num_tokens - 1) // self._page_tokens

    def _kv_pages(self, tokens: int) -> int:
        return -(-tokens // self._page_tokens)

"""Between the prefix cache and the disk tier: what is stored when, what is fetched for whom. Owns no thread, no file.

Whatever moves is pinned: its pages come back to the pool only when the tier has said that it is done with them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prfaas.cache.changes import Part
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.tier_plan import Missing, missing, pays
from prfaas.core.clock import Clock
from prfaas.core.ids import BlockHash, RequestId
from prfaas.engine.disk_queue import Done
from prfaas.engine.disk_store import Entry
from prfaas.engine.disk_tier import DiskTier
from prfaas.engine.messages import DiskStats
from prfaas.engine.page_copies import PageCopies, SharedPages

log = logging.getLogger(__name__)

FIRST_GUESS_BYTES_PER_S = 500e6
"""Of a disk, until loads have been measured."""
PATIENCE_S = 5.0
"""A request waits for a load at least so long, and as long as computing would take. Then it is computed."""
_HOPE = 1 / 16
"""By so much of itself the disk's rate is raised whenever it is found too low, so that it is tried again."""
_KEEP_FREE_SHARE = 16
"""A load leaves one page in so many to requests that run."""

Waits = Callable[[RequestId, bool], None]
"""Tells the scheduler whether a waiting request's prefix is on its way."""


@dataclass(slots=True)
class _Load:
    hashes: tuple[BlockHash, ...]
    tokens: tuple[int, ...]
    """Of the prompt; none where only its hashes are known."""
    first: int
    pinned: tuple[int, ...]
    """What of the prefix was in memory, held so that what comes can follow it."""
    entries: tuple[Entry, ...]
    until_s: float
    """When those who wait for it lose their patience."""
    waiting: list[RequestId] = field(default_factory=list)


class DiskMoves:
    """For the step loop's thread."""

    def __init__(
        self,
        tier: DiskTier,
        cache: PrefixCache,
        page_bytes: int,
        waits: Waits,
        clock: Clock,
        copies: PageCopies | None = None,
    ) -> None:
        """`copies` of pages that the tier reads and writes; by default it does so where the model computes."""
        self._tier = tier
        self._cache = cache
        self._page_bytes = page_bytes
        self._waits = waits
        self._clock = clock
        self._copies = copies or SharedPages()
        self._loads: dict[BlockHash, _Load] = {}
        self._storing: set[tuple[Part, BlockHash]] = set()
        self._stores: dict[tuple[Part, BlockHash], tuple[int, ...]] = {}
        """Pages that are held for each store, by its first entry."""
        self._bytes_per_s = FIRST_GUESS_BYTES_PER_S
        self._prefill_s_per_token = 0.0

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A step computed so many prompt tokens in that time."""
        rate = seconds / tokens
        self._prefill_s_per_token = 0.8 * (self._prefill_s_per_token or rate) + 0.2 * rate

    def advance(self) -> None:
        """Takes note of all that the tier has done since the last call."""
        for done in self._tier.take():
            if done.loaded:
                self._loaded(done)
            else:
                self._stored(done)
        if any(load.waiting for load in self._loads.values()):
            self._lose_patience(self._clock())

    def patient_s(self) -> float | None:
        """Seconds until a request that waits for a load goes on without it; None if none waits."""
        times = [load.until_s for load in self._loads.values() if load.waiting]
        return max(0.0, min(times) - self._clock()) if times else None

    def fetch(self, hashes: Sequence[BlockHash], tokens: Sequence[int], request_id: RequestId | None) -> None:
        """Begins to load what makes the prefix longer, if that is faster than computing it; the request waits for it.

        Without `tokens`, as when a request is only announced, all blocks count as reusable.
        """
        limit = (len(tokens) - 1) // self._cache.block_tokens if tokens else len(hashes)
        match = self._cache.match(hashes, limit)
        wanted = missing(hashes, limit, match, has_states=self._cache.state_pages > 0, holds=self._tier.holds)
        if wanted is None:
            return
        load = self._loads.get(hashes[wanted.last - 1])
        if load is None:
            load = self._begin(tuple(hashes), tuple(tokens), wanted)
        if load is not None and request_id is not None and self._clock() < load.until_s:
            load.waiting.append(request_id)
            self._waits(request_id, True)

    def keep(self, hashes: Sequence[BlockHash]) -> None:
        """Begins to store what is cached of a prefix up to its last snapshot, as far as it is not stored yet.

        No block from the first on that was rounded on its way here, and no such state: the disk keeps no mark, and what
        comes from it may be rounded again.
        """
        cache = self._cache
        match = cache.match(hashes)
        held = zip(hashes, match.pages, strict=False)
        entries: list[Entry] = []
        parent: BlockHash | None = None
        last = self._last_usable(hashes, cache.pool.unmarked_until(match.pages))
        for name, page in list(held)[:last]:
            parts: tuple[tuple[Part, tuple[int, ...]], ...] = (("kv", (page,)), ("state", cache.snapshot_pages(name)))
            for part, pages in parts:
                if pages and not self._is_stored(part, name) and cache.pool.unmarked_until(pages) == len(pages):
                    entries.append(Entry(part, name, parent, pages))
            parent = name
        if not entries:
            return
        pinned = cache.hold([page for entry in entries for page in entry.pages])
        self._copies.fetch([page for entry in entries for page in entry.pages])
        if self._tier.store(entries):
            self._storing.update((entry.part, entry.block_hash) for entry in entries)
            self._stores[entries[0].part, entries[0].block_hash] = pinned
        else:
            cache.release(pinned)

    def stats(self) -> DiskStats:
        """The present reading."""
        tier, counts = self._tier, self._tier.counts
        return DiskStats(
            entries=tier.num_entries,
            bytes=tier.num_bytes,
            stored=counts.stored,
            stored_bytes=counts.stored_bytes,
            loaded=counts.loaded,
            loaded_bytes=counts.loaded_bytes,
            corrupt=counts.corrupt,
            foreign=counts.foreign,
            dropped=counts.dropped,
            missing=counts.missing,
            failed=counts.failed,
            evicted=counts.evicted,
            off=tier.off is not None,
        )

    def close(self) -> None:
        """Ends the tier's thread; what it has not written by then is not stored."""
        self._tier.close()

    def _begin(self, hashes: tuple[BlockHash, ...], tokens: tuple[int, ...], wanted: Missing) -> _Load | None:
        cache = self._cache
        pages_each = (1,) * len(wanted.blocks) + ((cache.state_pages,) if wanted.snapshot else ())
        num_bytes = sum(pages_each) * self._page_bytes
        gained = wanted.gained_blocks * cache.block_tokens
        if not pays(num_bytes, self._bytes_per_s, gained, self._prefill_s_per_token):
            self._bytes_per_s *= 1 + _HOPE
            return None
        match = cache.match(hashes)
        keep_free = cache.pool.size // _KEEP_FREE_SHARE
        needed = sum(pages_each) + cache.pin_cost(match, wanted.first, snapshot=False)
        if cache.available < needed + keep_free:
            return None
        pinned = cache.pin(match, wanted.first, snapshot=False)
        fresh = cache.allocate(sum(pages_each))
        assert fresh is not None
        until_s = self._clock() + max(PATIENCE_S, gained * self._prefill_s_per_token)
        load = _Load(hashes, tokens, wanted.first, pinned, _entries(hashes, wanted, fresh), until_s)
        if not self._tier.load(load.entries):
            self._release(load)
            return None
        self._loads[hashes[wanted.last - 1]] = load
        return load

    def _loaded(self, done: Done) -> None:
        load = self._loads.pop(done.entries[-1].block_hash)
        num_bytes = sum(len(e.pages) for e, ok in zip(done.entries, done.ok, strict=True) if ok) * self._page_bytes
        if num_bytes:
            rate = num_bytes / max(done.seconds, 1e-6)
            self._bytes_per_s = 0.5 * self._bytes_per_s + 0.5 * rate
        self._insert(load, done.ok)
        self._release(load)
        self._let_go(load)

    def _lose_patience(self, now_s: float) -> None:
        for load in self._loads.values():
            if load.waiting and load.until_s <= now_s:
                log.warning("the disk is slow: %d requests are computed that waited for it", len(load.waiting))
                self._let_go(load)

    def _let_go(self, load: _Load) -> None:
        for request_id in load.waiting:
            self._waits(request_id, False)
        load.waiting.clear()

    def _insert(self, load: _Load, ok: Sequence[bool]) -> None:
        """Into the index, up to the first entry that did not come."""
        cache, size = self._cache, self._cache.block_tokens
        if cache.match(load.hashes).pages[: load.first] != load.pinned:
            log.info("what a prefix from disk would follow proved wrong meanwhile; it is computed")
            return
        self._copies.push([page for entry, came in zip(load.entries, ok, strict=True) if came for page in entry.pages])
        parent = load.hashes[load.first - 1] if load.first else None
        index = load.first
        duplicates: tuple[int, ...] = ()
        for entry, came in zip(load.entries, ok, strict=True):
            if not came:
                log.info("the disk tier lacks a part of a prefix; it is computed")
                break
            if entry.part == "kv":
                tokens = load.tokens[index * size : (index + 1) * size]
                duplicates += cache.insert_blocks(parent, [entry.block_hash], entry.pages, [tokens])
                parent, index = entry.block_hash, index + 1
            else:
                cache.insert_snapshot(entry.block_hash, entry.pages)
        load.pinned += duplicates

    def _stored(self, done: Done) -> None:
        self._storing.difference_update((entry.part, entry.block_hash) for entry in done.entries)
        self._cache.release(self._stores.pop((done.entries[0].part, done.entries[0].block_hash)))

    def _release(self, load: _Load) -> None:
        self._cache.release([*load.pinned, *(page for entry in load.entries for page in entry.pages)])

    def _is_stored(self, part: Part, name: BlockHash) -> bool:
        return (part, name) in self._storing or self._tier.holds(part, name)

    def _last_usable(self, hashes: Sequence[BlockHash], held: int) -> int:
        if not self._cache.state_pages:
            return held
        return next((end for end in range(held, 0, -1) if self._cache.has_snapshot(hashes[end - 1])), 0)


def _entries(hashes: Sequence[BlockHash], wanted: Missing, pages: tuple[int, ...]) -> tuple[Entry, ...]:
    """Parents first; the snapshot after the block at whose end it was taken."""
    blocks = tuple(
        Entry("kv", hashes[i], hashes[i - 1] if i else None, (page,))
        for i, page in zip(wanted.blocks, pages, strict=False)
    )
    if not wanted.snapshot:
        return blocks
    parent = hashes[wanted.last - 2] if wanted.last > 1 else None
    return (*blocks, Entry("state", hashes[wanted.last - 1], parent, pages[len(blocks) :]))

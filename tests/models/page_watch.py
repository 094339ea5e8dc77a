"""Watches an instance's pages: one writer each, what is cached does not change, what is free is NaN. Runs nothing."""

from xxhash import xxh3_128_digest

from prfaas.cache.changes import Cleared, Part, Removed, Stored
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import BlockHash
from prfaas.engine.memory import CacheMemory
from prfaas.scheduler.plan import Chunk, StepPlan
from tests.models.rig import POISON

Name = tuple[Part, BlockHash]


class PageWatch:
    """Asserts; consumes the cache's changes."""

    def __init__(self, cache: PrefixCache, memory: CacheMemory) -> None:
        self._cache = cache
        self._memory = memory
        self._seen: dict[Name, bytes] = {}
        """Digests of all that was cached at the last look."""
        self._poisoned = set[int]()
        """Free pages that nobody had since they were poisoned."""

    def planned(self, plan: StepPlan) -> None:
        """Before a step: nobody writes what another one writes, or anybody else holds."""
        writer: dict[int, str] = {}
        self._poisoned = {page for page in self._poisoned if not self._cache.pool.refs(page)}
        for chunk in plan.chunks:
            name = chunk.sequence.request_id
            for page in self._written(chunk):
                assert self._cache.pool.refs(page) == 1, f"{name} writes page {page}, which others hold"
                assert writer.setdefault(page, name) == name, f"{name} and {writer[page]} write page {page}"

    def rested(self) -> None:
        """After a step: the cache's books are right, and it holds what it held."""
        self._cache.check()
        self._forget_what_went()
        now = self.digests()
        changed = [name for name in self._seen if now.get(name) != self._seen[name]]
        assert not changed, f"what the cache holds was written again, or lost: {changed}"
        self._seen = now
        self._poison_free_pages()

    def _written(self, chunk: Chunk) -> tuple[int, ...]:
        size = self._cache.block_tokens
        return chunk.sequence.pages[chunk.start // size : -(-chunk.end // size)] + chunk.state_to

    def _forget_what_went(self) -> None:
        """What was evicted and came again since may differ in the last bits."""
        for change in self._cache.take_changes():
            match change:
                case Removed(part, name):
                    self._seen.pop((part, name), None)
                case Cleared():
                    self._seen.clear()
                case Stored():
                    pass

    def digests(self) -> dict[Name, bytes]:
        """Of what is cached now."""
        tree = self._cache._tree
        pages: dict[Name, tuple[int, ...]] = {("kv", tree.hash(block)): (block,) for block in tree}
        pages |= {("state", tree.hash(block)): snapshot.pages for block, snapshot in tree.snapshots.items()}
        return {name: b"".join(map(self._digest, those)) for name, those in pages.items()}

    def _digest(self, page: int) -> bytes:
        return xxh3_128_digest(self._memory.page(page))

    def _poison_free_pages(self) -> None:
        """Whoever reads a page that was given back, or that was never written, draws nothing."""
        poison = bytes([POISON]) * self._memory.page_bytes
        free = {page for page in range(self._cache.pool.size) if not self._cache.pool.refs(page)}
        for page in free - self._poisoned:
            self._memory.page(page)[:] = poison
        self._poisoned = free

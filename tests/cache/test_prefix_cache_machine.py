"""The prefix cache under requests, transfers, leases and crashes in any order, against a model of plain dicts.

The model knows what each page contains, as whoever had it would have written it. So it finds a page with two writers,
a block that is found in the wrong page, one that is lost, and a reference too many or too few.
"""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prfaas.cache.changes import Cleared, Removed, Stored
from prfaas.cache.leases import LeaseId
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.errors import LeaseError, UnknownBlockError
from prfaas.core.ids import BlockHash
from tests.cache.prompts import Prompt, Request, admit, compute, names

PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=6).map(tuple)
NUM_PAGES = 18


class CacheMachine(RuleBasedStateMachine):
    """Holders come and go in a pool that is too small for them."""

    @initialize(state_pages=st.sampled_from([0, 1, 3]), eviction=st.sampled_from(["cost", "lru"]))
    def start(self, state_pages: int, eviction: str) -> None:
        self.cache = PrefixCache(
            PagePool(NUM_PAGES), block_tokens=1, state_pages=state_pages, eviction=eviction, record_changes=True
        )
        self.requests: list[Request] = []
        self.transfers: list[tuple[int, ...]] = []
        self.leases: dict[LeaseId, tuple[float, list[int]]] = {}
        self.ended: list[LeaseId] = []
        self.content: dict[int, tuple[str, BlockHash]] = {}
        self.kv: dict[BlockHash, int] = {}
        self.states: dict[BlockHash, tuple[int, ...]] = {}
        self.now_s = 0.0

    # What the model says.

    def references(self) -> Counter[int]:
        """Of holders, not of the index."""
        held = [r.held for r in self.requests] + [list(t) for t in self.transfers]
        return Counter(page for pages in [*held, *(pages for _, pages in self.leases.values())] for page in pages)

    def leading(self, prompt: Prompt) -> list[BlockHash]:
        hashes = names(prompt)
        end = next((i for i, name in enumerate(hashes) if name not in self.kv), len(hashes))
        return hashes[:end]

    def usable(self, prompt: Prompt, limit: int) -> int:
        hashes = self.leading(prompt)[:limit]
        while hashes and self.cache.state_pages and hashes[-1] not in self.states:
            hashes.pop()
        return len(hashes)

    def follow_changes(self) -> None:
        """What the cache says it evicted must not have been in use, and is gone from the model too.

        A snapshot in use goes only where its block goes, which its holder did not hold.
        """
        in_use = self.references()
        lost: set[BlockHash] = set()
        for change in self.cache.take_changes():
            match change:
                case Stored():
                    pass
                case Removed(part="kv", block_hash=name):
                    assert not in_use[self.kv.pop(name)]
                case Removed(block_hash=name):
                    if all(in_use[page] for page in self.states.pop(name)):
                        lost.add(name)
                case Cleared():
                    assert self.cache.blocks == 0
                    self.kv, self.states = {}, {}
        assert not lost & set(self.kv)

    def write(self, pages: list[int], part: str, name: BlockHash) -> None:
        for page in pages:
            self.content[page] = part, name

    # What happens.

    @rule(prompt=PROMPTS)
    def match(self, prompt: Prompt) -> None:
        found = self.cache.match(names(prompt), len(prompt) - 1)
        leading = self.leading(prompt)
        assert list(found.pages) == [self.kv[name] for name in leading]
        assert [self.content[p] for p in found.pages] == [("kv", name) for name in leading]
        assert found.usable_blocks == self.usable(prompt, len(prompt) - 1)
        if found.usable_blocks and self.cache.state_pages:
            name = leading[found.usable_blocks - 1]
            assert found.snapshot == self.states[name]
            assert {self.content[p] for p in found.snapshot} == {("state", name)}
        else:
            assert found.snapshot == ()

    @rule(prompt=PROMPTS)
    def admit(self, prompt: Prompt) -> None:
        available, usable, before = self.cache.available, self.usable(prompt, len(prompt) - 1), self.references()
        request = admit(self.cache, prompt)
        self.follow_changes()
        if request is None:
            assert available < len(prompt) + self.cache.state_pages * 2
            return
        assert request.done == usable
        own = request.pages[usable:] + request.extra[self.cache.state_pages if usable else 0 :]
        self.take(own, before)
        self.requests.append(request)

    def take(self, pages: list[int], before: Counter[int]) -> None:
        """New pages are nobody else's, and whoever gets them may write at once."""
        assert not any(before[page] for page in pages)
        cached = {*self.kv.values(), *(p for snapshot in self.states.values() for p in snapshot)}
        assert not cached & set(pages)
        self.write(pages, "private", BlockHash(b""))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        blocks = data.draw(st.integers(0, len(request.prompt) - request.done))
        new = slice(request.done, request.done + blocks)
        pages, hashes, extra = request.pages[new], names(request.prompt)[new], len(request.extra)
        for page, name in zip(pages, hashes, strict=True):
            self.write([page], "kv", name)
        compute(self.cache, request, blocks)
        held = [self.kv[name] for name in hashes if name in self.kv]
        assert request.extra[extra:] == held
        for page, name in zip(pages, hashes, strict=True):
            self.kv.setdefault(name, page)

    @precondition(lambda self: any(r.done for r in self.requests))
    @rule(data=st.data())
    def snapshot(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([r for r in self.requests if r.done]))
        name = names(request.prompt)[data.draw(st.integers(0, request.done - 1))]
        before = self.references()
        pages = self.cache.allocate(self.cache.state_pages)
        self.follow_changes()
        if pages is None:
            return
        self.take(list(pages), before)
        request.extra += pages
        taken = self.cache.insert_snapshot(name, pages)
        assert taken == (self.cache.state_pages > 0 and name not in self.states)
        if taken:
            self.write(list(pages), "state", name)
            self.states[name] = pages

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), again=st.booleans())
    def end(self, data: st.DataObject, again: bool) -> None:
        """Finished, crashed, cancelled (at any point), or preempted and back at once."""
        request = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        self.cache.release(request.held)
        if again:
            self.admit(request.prompt)

    @rule(count=st.integers(0, NUM_PAGES + 2))
    def transfer(self, count: int) -> None:
        """A holder that never inserts."""
        before, available = self.references(), self.cache.available
        pages = self.cache.allocate(count)
        self.follow_changes()
        assert (pages is None) == (count > available)
        if pages is not None:
            self.take(list(pages), before)
            self.transfers.append(pages)

    @precondition(lambda self: self.kv)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        """Someone who reads some blocks or snapshots, with what comes before them."""
        cached = [(page,) for page in self.kv.values()] + [pages for pages in self.states.values() if pages]
        wanted = {page for pages in data.draw(st.lists(st.sampled_from(cached), max_size=3)) for page in pages}
        held = self.cache.hold(wanted)
        assert wanted <= set(held)
        assert len(set(held)) == len(held)
        self.transfers.append(held)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """What a request has computed is wrong, and it ends, as do those that share it."""
        failed = data.draw(st.sampled_from(self.requests))
        wrong = names(failed.prompt)[: failed.done][data.draw(st.integers(0, 5)) :]
        gone = self.cache.forget(wrong)
        for change in self.cache.take_changes():
            assert isinstance(change, Removed)
            assert change.block_hash in gone
            del (self.kv if change.part == "kv" else self.states)[change.block_hash]
        assert not set(wrong) & (set(self.states) | set(self.kv))
        assert all(held.parent in (None, *self.kv) for held in self.cache.holdings())
        for request in [r for r in self.requests if gone & set(names(r.prompt))]:
            self.requests.remove(request)
            self.cache.release(request.held)

    @precondition(lambda self: self.transfers)
    @rule(data=st.data())
    def end_transfer(self, data: st.DataObject) -> None:
        self.cache.release(self.transfers.pop(data.draw(st.integers(0, len(self.transfers) - 1))))

    @rule(prompt=PROMPTS, for_s=st.integers(0, 9))
    def lease(self, prompt: Prompt, for_s: int) -> None:
        usable = self.usable(prompt, len(prompt))
        lease = self.cache.lease(names(prompt), self.now_s + for_s)
        assert (lease is None) == (usable == 0)
        if lease is not None:
            hashes = names(prompt)[:usable]
            pages = [self.kv[name] for name in hashes]
            pages += self.states[hashes[-1]] if self.cache.state_pages else ()
            self.leases[lease] = self.now_s + for_s, pages

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.leases)))
        self.cache.end_lease(lease)
        del self.leases[lease]
        self.ended.append(lease)

    @rule(later_s=st.integers(0, 5))
    def expire(self, later_s: int) -> None:
        self.now_s += later_s
        over = [lease for lease, (until_s, _) in self.leases.items() if until_s <= self.now_s]
        assert self.cache.expire_leases(self.now_s) == len(over)
        for lease in over:
            del self.leases[lease]
            self.ended.append(lease)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def stale_lease(self, data: st.DataObject) -> None:
        before = self.cache.stale_leases
        with pytest.raises(LeaseError):
            self.cache.end_lease(data.draw(st.sampled_from(self.ended)))
        assert self.cache.stale_leases == before + 1

    @precondition(lambda self: self.kv)
    @rule(prompt=PROMPTS)
    def stale_match(self, prompt: Prompt) -> None:
        """Pinning what was evicted meanwhile is refused; nothing else tells its pages from another prompt's."""
        match, evictions = self.cache.match(names(prompt)), self.cache.evicted_blocks + self.cache.evicted_snapshots
        self.transfer(self.cache.available)
        if match.usable_blocks and self.cache.evicted_blocks + self.cache.evicted_snapshots > evictions:
            with pytest.raises(UnknownBlockError):
                self.cache.pin(match, match.usable_blocks, snapshot=True)

    @rule()
    def clear(self) -> None:
        """Leaves what is in use, with all that it rests on."""
        in_use = self.references()
        self.cache.clear()
        self.follow_changes()
        assert all(in_use[page] for page in self.kv.values())
        assert self.cache.idle_pages == 0

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.follow_changes()
        self.cache.check()
        in_use, kept = self.references(), set(self.kv.values())
        kept.update(page for pages in self.states.values() for page in pages)
        assert [self.cache.pool.refs(p) for p in range(NUM_PAGES)] == [
            in_use[p] + (p in kept) for p in range(NUM_PAGES)
        ]
        assert self.cache.available == sum(not in_use[p] for p in range(NUM_PAGES))
        assert (self.cache.blocks, self.cache.snapshots) == (len(self.kv), len(self.states))

    @invariant()
    def holdings_are_what_is_held_parents_first(self) -> None:
        seen: set[BlockHash] = set()
        for held in self.cache.holdings():
            assert held.parent is None or held.parent in seen
            assert held.block_hash in (self.kv if held.part == "kv" else self.states)
            seen.add(held.block_hash)
        assert seen == set(self.kv)

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            for request in self.requests:
                self.cache.release(request.held)
            for pages in self.transfers:
                self.cache.release(pages)
            self.cache.expire_leases(float("inf"))
            self.cache.clear()
            assert self.cache.pool.used == 0


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=80, stateful_step_count=40)

"""The page pool against a model of itself: who holds each page how often, and what the index keeps."""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prfaas.cache.pool import PagePool
from prfaas.core.errors import PoolError

SIZE = 12
IDS = st.lists(st.integers(-1, SIZE), max_size=6)


class PoolMachine(RuleBasedStateMachine):
    """Any calls at all; those that are not allowed must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(SIZE)
        self.held: Counter[int] = Counter()
        self.kept: set[int] = set()

    def used(self) -> set[int]:
        return {*(+self.held), *self.kept}

    @rule(count=st.integers(0, SIZE + 2))
    def allocate(self, count: int) -> None:
        used = self.used()
        got = self.pool.allocate(count)
        assert (got is None) == (count > SIZE - len(used))
        if got is not None:
            assert len(set(got)) == count
            assert not used & set(got)
            self.held.update(got)

    @rule(ids=IDS)
    def share(self, ids: list[int]) -> None:
        if set(ids) <= self.used():
            self.pool.share(ids)
            self.held.update(ids)
        else:
            with pytest.raises(PoolError):
                self.pool.share(ids)

    @rule(ids=IDS)
    def release(self, ids: list[int]) -> None:
        if Counter(ids) <= self.held:
            idle = self.pool.release(ids)
            self.held -= Counter(ids)
            assert set(idle) == {i for i in ids if i in self.kept and not self.held[i]}
            assert len(set(idle)) == len(idle)
        else:
            with pytest.raises(PoolError):
                self.pool.release(ids)

    @rule(ids=IDS)
    def keep(self, ids: list[int]) -> None:
        if len(set(ids)) == len(ids) and all(self.held[i] and i not in self.kept for i in ids):
            self.pool.keep(ids)
            self.kept.update(ids)
        else:
            with pytest.raises(PoolError):
                self.pool.keep(ids)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        ids = [i for i in sorted(self.kept) if data.draw(st.booleans())]
        assert self.pool.drop(ids) == sum(not self.held[i] for i in ids)
        self.kept.difference_update(ids)

    @invariant()
    def the_counts_agree(self) -> None:
        self.pool.check()
        assert [self.pool.refs(i) for i in range(SIZE)] == [self.held[i] + (i in self.kept) for i in range(SIZE)]
        assert self.pool.used == len(self.used()) == SIZE - self.pool.free
        assert self.pool.idle == sum(not self.held[i] for i in self.kept)
        assert self.pool.kept == len(self.kept)


TestPool = PoolMachine.TestCase


def test_what_was_freed_last_is_given_first() -> None:
    pool = PagePool(4)
    assert pool.allocate(3) == (0, 1, 2)
    pool.release([1])
    assert pool.allocate(2) == (1, 3)


def test_the_same_page_twice_in_one_release() -> None:
    pool = PagePool(2)
    pages = pool.allocate(1)
    assert pages is not None
    with pytest.raises(PoolError, match=r"not allocated so: \[0\]"):
        pool.release(pages + pages)
    assert pool.used == 1


def test_a_holder_cannot_give_back_the_reference_of_the_index() -> None:
    pool = PagePool(1)
    pages = pool.allocate(1)
    assert pages is not None
    pool.keep(pages)
    assert pool.release(pages) == [0]
    with pytest.raises(PoolError):
        pool.release(pages)
    assert (pool.used, pool.idle) == (1, 1)


def test_what_is_refused_halfway_changes_nothing() -> None:
    pool = PagePool(4)
    held, kept = pool.allocate(1), pool.allocate(1)
    assert held is not None
    assert kept is not None
    pool.keep(kept)
    pool.release(kept)
    with pytest.raises(PoolError, match=r"not allocated so: \[2\]"):
        pool.share((*held, *kept, 2))
    with pytest.raises(PoolError, match=r"not allocated so: \[1\]"):
        pool.keep((*held, *kept))
    with pytest.raises(PoolError, match=r"not allocated so: \[0, 0\]"):
        pool.keep((*held, *held))
    pool.check()
    assert ([pool.refs(page) for page in range(4)], pool.kept, pool.idle) == ([1, 1, 0, 0], 1, 1)

"""The page pool against a model of itself."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prfaas.cache.pool import PagePool
from prfaas.core.errors import PoolError


class PoolMachine(RuleBasedStateMachine):
    """Holders come and go; nobody ever shares a page."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(20)
        self.held: list[tuple[int, ...]] = []

    @rule(count=st.integers(0, 25))
    def allocate(self, count: int) -> None:
        free = self.pool.free
        got = self.pool.allocate(count)
        assert (got is None) == (count > free)
        if got is not None:
            assert len(got) == count
            self.held.append(got)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.held:
            index = data.draw(st.integers(0, len(self.held) - 1))
            self.pool.release(self.held.pop(index))

    @rule(data=st.data())
    def release_twice_is_refused_whole(self, data: st.DataObject) -> None:
        used = {i for ids in self.held for i in ids}
        stray = data.draw(st.sampled_from(sorted(set(range(20)) - used) or [99]))
        before = self.pool.free
        with pytest.raises(PoolError):
            self.pool.release([*used, stray])
        assert self.pool.free == before

    @invariant()
    def nothing_is_shared_or_lost(self) -> None:
        self.pool.check()
        held = [i for ids in self.held for i in ids]
        assert len(held) == len(set(held)) == self.pool.used


TestPool = PoolMachine.TestCase


def test_the_same_page_twice_in_one_release() -> None:
    pool = PagePool(2, "state slot")
    ids = pool.allocate(1)
    assert ids is not None
    with pytest.raises(PoolError, match="state slot"):
        pool.release(ids + ids)
    assert pool.used == 1

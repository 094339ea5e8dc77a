"""In which order things go when pages are needed."""

from array import array

import pytest

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.errors import PoolError
from tests.cache.prompts import Prompt, admit, compute, names, serve

BOTH = pytest.mark.parametrize("eviction", ["cost", "lru"])


def cache_of(pages: int, state_pages: int, eviction: str) -> PrefixCache:
    return PrefixCache(PagePool(pages), block_tokens=1, state_pages=state_pages, eviction=eviction)


def held(cache: PrefixCache, prompt: Prompt) -> int:
    return len(cache.match(names(prompt)).pages)


def need(cache: PrefixCache, pages: int) -> None:
    """Makes room for `pages` and leaves them free."""
    taken = cache.allocate(pages)
    assert taken is not None
    cache.release(taken)
    cache.check()


@BOTH
def test_kv_goes_from_the_end_of_the_older_prompt_and_only_as_much_as_is_needed(eviction: str) -> None:
    cache = cache_of(10, 0, eviction)
    serve(cache, (1, 2, 3, 4, 5))
    serve(cache, (6, 7, 8, 9, 0))
    need(cache, 3)
    assert (held(cache, (1, 2, 3, 4, 5)), held(cache, (6, 7, 8, 9, 0))) == (2, 5)


@BOTH
def test_what_prompts_share_outlives_what_they_do_not(eviction: str) -> None:
    cache = cache_of(12, 0, eviction)
    for last in range(5):
        serve(cache, (1, 2, 3, 10 + last))
    assert cache.blocks == 8
    need(cache, 9)
    assert held(cache, (1, 2, 3)) == 3
    assert cache.blocks == 3


@BOTH
def test_a_prompt_that_came_again_outlives_a_later_one(eviction: str) -> None:
    cache = cache_of(9, 0, eviction)
    serve(cache, (1, 2, 3))
    serve(cache, (4, 5, 6))
    serve(cache, (1, 2, 3, 7))
    need(cache, 5)
    assert (held(cache, (1, 2, 3)), held(cache, (4, 5, 6))) == (3, 0)


@BOTH
def test_a_prompt_that_was_computed_again_is_as_fresh_as_a_new_one(eviction: str) -> None:
    """Also where nothing of it was used: its pages stay the first one's."""
    cache = cache_of(9, 0, eviction)
    serve(cache, (1, 2))
    serve(cache, (3, 4))
    again = admit(cache, (1,))
    assert again is not None
    compute(cache, again, 1)
    cache.release(again.held)
    serve(cache, (1, 2))
    need(cache, 7)
    assert (held(cache, (1, 2)), held(cache, (3, 4))) == (2, 0)


@BOTH
def test_a_snapshot_that_was_used_outlives_a_later_one(eviction: str) -> None:
    cache = cache_of(20, 2, eviction)
    serve(cache, (1, 2, 3), snapshots=(3,))
    serve(cache, (4, 5, 6), snapshots=(3,))
    match = cache.match(names((1, 2, 3)))
    cache.release(cache.pin(match, 3, snapshot=True) + match.snapshot)
    need(cache, 20 - cache.cached_pages + 5)
    assert (held(cache, (1, 2, 3)), held(cache, (4, 5, 6))) == (3, 0)


def test_uses_through_a_block_that_went_count_for_those_above_it() -> None:
    cache = cache_of(9, 0, "cost")
    serve(cache, (1, 2, 3))
    serve(cache, (5, 6))
    for _ in range(3):
        cache.release(cache.pin(cache.match(names((1, 2, 3))), 3, snapshot=False))
    for _ in range(2):
        cache.release(cache.pin(cache.match(names((5, 6))), 2, snapshot=False))
    lease = cache.lease(names((5, 6)), until_s=1.0)
    assert lease is not None
    need(cache, cache.pool.free + 1)
    assert held(cache, (1, 2, 3)) == 2
    cache.end_lease(lease)
    need(cache, cache.pool.free + 1)
    assert (held(cache, (1, 2)), held(cache, (5, 6))) == (2, 1), "used three times, and twice"


@BOTH
def test_a_run_of_blocks_stops_where_uses_ended(eviction: str) -> None:
    cache = cache_of(10, 0, eviction)
    serve(cache, (1, 2, 3, 4))
    serve(cache, (5, 6))
    cache.release(cache.pin(cache.match(names((1, 2))), 2, snapshot=False))
    need(cache, 10 - cache.cached_pages + 4)
    assert (held(cache, (1, 2, 3, 4)), held(cache, (5, 6))) == (2, 0)


@BOTH
def test_a_run_of_blocks_stops_where_one_is_held(eviction: str) -> None:
    cache = cache_of(10, 0, eviction)
    first, second = admit(cache, (1, 2)), admit(cache, (1, 2, 3))
    assert first is not None
    assert second is not None
    compute(cache, first, 2)
    compute(cache, second, 3)
    cache.release(second.held)
    serve(cache, (5, 6))
    need(cache, 7)
    assert (held(cache, (1, 2, 3)), held(cache, (5, 6))) == (2, 1)
    cache.release(first.held)


@BOTH
def test_a_run_of_blocks_stops_where_another_prompt_goes_on(eviction: str) -> None:
    cache = cache_of(8, 0, eviction)
    first, second = admit(cache, (1, 2, 3)), admit(cache, (1, 2, 4))
    assert first is not None
    assert second is not None
    compute(cache, first, 3)
    compute(cache, second, 3)
    cache.release(first.held)
    cache.release(second.held)
    need(cache, 5)
    assert sorted([held(cache, (1, 2, 3)), held(cache, (1, 2, 4))]) == [2, 3]


def test_a_snapshot_is_judged_together_with_the_kv_that_only_it_uses() -> None:
    """Ten blocks saved by twelve pages are worth less than nine saved by three, whose KV others need anyway."""
    cache = cache_of(40, 2, "cost")
    stem = tuple(range(8))
    serve(cache, (*stem, 10), snapshots=(9,))
    serve(cache, (*stem, 11), snapshots=(9,))
    serve(cache, tuple(range(20, 30)), snapshots=(10,))
    need(cache, 40 - cache.cached_pages + 1)
    assert [cache.match(names((*stem, last))).usable_blocks for last in (10, 11)] == [9, 9]
    assert cache.match(names(tuple(range(20, 30)))).usable_blocks == 0


def test_by_cost_what_was_used_often_outlives_newer_things_and_in_the_end_goes_too() -> None:
    cache = cache_of(8, 0, "cost")
    for _ in range(4):
        serve(cache, (1, 2, 3))
    for turn in range(3):
        serve(cache, (10 + turn, 20 + turn, 30 + turn))
    assert held(cache, (1, 2)) == 2, "used three times: newer ones that were used once went first"
    for turn in range(100):
        serve(cache, (10 + turn, 20 + turn, 30 + turn))
    assert held(cache, (1, 2)) == 0


def test_by_last_use_it_does_not() -> None:
    cache = cache_of(8, 0, "lru")
    for _ in range(4):
        serve(cache, (1, 2, 3))
    for turn in range(3):
        serve(cache, (10 + turn, 20 + turn, 30 + turn))
    assert held(cache, (1, 2)) == 0


def test_by_cost_kv_below_the_last_snapshot_goes_first() -> None:
    cache = cache_of(20, 2, "cost")
    serve(cache, (1, 2, 3), snapshots=(2,))
    serve(cache, (4, 5, 6, 7), snapshots=(2,))
    need(cache, 20 - cache.cached_pages + 3)
    assert (held(cache, (1, 2, 3)), held(cache, (4, 5, 6, 7))) == (2, 2)
    assert cache.evicted_snapshots == 0


def test_by_cost_the_kv_of_a_lost_snapshot_goes_before_any_other_snapshot() -> None:
    cache = cache_of(20, 2, "cost")
    for prompt in ((1, 2, 3), (4, 5, 6)):
        serve(cache, prompt, snapshots=(3,))
    need(cache, 20 - cache.cached_pages + 5)
    assert sorted([held(cache, (1, 2, 3)), held(cache, (4, 5, 6))]) == [0, 3]
    assert (cache.evicted_snapshots, cache.evicted_blocks) == (1, 3)


def test_an_inner_snapshot_goes_alone() -> None:
    cache = cache_of(20, 2, "lru")
    serve(cache, (1, 2, 3, 4), snapshots=(2, 4))
    need(cache, 20 - cache.cached_pages + 1)
    assert (cache.evicted_snapshots, cache.evicted_blocks) == (1, 0)
    match = cache.match(names((1, 2, 3, 4)))
    assert (len(match.pages), match.usable_blocks) == (4, 4)
    assert cache.match(names((1, 2, 3))).usable_blocks == 0


def test_by_cost_the_ends_of_earlier_turns_go_before_the_ends_of_other_prompts() -> None:
    cache = cache_of(30, 2, "cost")
    for prompt in ((1, 2, 3, 4), (5, 6, 7, 8), (1, 2, 3, 4, 9, 10)):
        serve(cache, prompt, snapshots=(len(prompt),))
    need(cache, 30 - cache.cached_pages + 1)
    assert (cache.evicted_snapshots, cache.evicted_blocks) == (1, 0)
    usable = [cache.match(names(prompt)).usable_blocks for prompt in ((1, 2, 3, 4), (5, 6, 7, 8))]
    assert usable == [0, 4], "used once more than the other, which nothing followed"


def test_by_cost_an_earlier_turn_counts_in_full_when_the_later_one_is_gone() -> None:
    cache = cache_of(30, 2, "cost")
    serve(cache, (1, 2, 3, 4), snapshots=(2, 4))
    tree = cache._tree
    (end,) = (block for block in tree if tree.depth(block) == 4)
    (inner,) = (block for block in tree if tree.depth(block) == 2)
    before = cache._evictor._candidate(inner)
    cache.pool.drop(tree.remove_snapshot(end).pages)
    after = cache._evictor._candidate(inner)
    assert before is not None
    assert after is not None
    assert (before.inner, after.inner) == (True, False)
    assert (before.pages, after.pages) == (2, 4)


@BOTH
def test_kv_goes_although_someone_reads_its_snapshot(eviction: str) -> None:
    """A holder of a snapshot without its KV keeps the pages, and nobody else finds them."""
    cache = cache_of(6, 2, eviction)
    serve(cache, (1, 2), snapshots=(2,))
    match = cache.match(names((1, 2)))
    cache.pin(match, 0, snapshot=True)
    need(cache, 4)
    assert (cache.blocks, cache.snapshots, cache.available) == (0, 0, 4)
    assert [cache.pool.refs(page) for page in match.snapshot] == [1, 1]
    cache.release(match.snapshot)
    assert cache.pool.used == 0


@BOTH
def test_what_is_in_use_stays_and_can_go_afterwards(eviction: str) -> None:
    cache = cache_of(10, 2, eviction)
    serve(cache, (1, 2, 3), snapshots=(3,))
    match = cache.match(names((1, 2, 3)))
    pinned = cache.pin(match, 3, snapshot=True)
    need(cache, 5)
    assert cache.allocate(6) is None
    assert cache.match(names((1, 2, 3))).usable_blocks == 3
    cache.release(pinned + match.snapshot)
    need(cache, 10)
    assert cache.blocks == 0


def test_check_finds_what_could_be_evicted_and_is_not_queued() -> None:
    cache = cache_of(4, 0, "cost")
    serve(cache, (1, 2))
    pinned = cache.pin(cache.match(names((1, 2))), 2, snapshot=False)
    need(cache, 2)
    cache._evictor._heap.clear()
    cache._evictor._queued = array("q", bytes(32))
    cache.check()
    cache.pool.release(pinned)
    with pytest.raises(PoolError, match="not queued"):
        cache.check()

"""What the prefix cache finds, gives and refuses, case by case."""

import pytest

from prfaas.cache.changes import Cleared, Removed, Stored
from prfaas.cache.match import Match
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.errors import LeaseError, PoolError, UnknownBlockError
from tests.cache.prompts import admit, compute, names, serve

PROMPT = (1, 2, 3, 4)


def kv_cache(pages: int = 16, *, record_changes: bool = False) -> PrefixCache:
    return PrefixCache(PagePool(pages), block_tokens=1, state_pages=0, record_changes=record_changes)


def hybrid_cache(pages: int = 32, *, record_changes: bool = False) -> PrefixCache:
    return PrefixCache(PagePool(pages), block_tokens=1, state_pages=2, record_changes=record_changes)


def snapshot_of(cache: PrefixCache, prompt: tuple[int, ...]) -> tuple[int, ...]:
    return cache.match(names(prompt)).snapshot


def test_pages_of_a_finished_prompt_are_found_in_order_and_still_available() -> None:
    cache = kv_cache()
    done = serve(cache, PROMPT)
    match = cache.match(names((*PROMPT, 5)))
    assert match == Match(tuple(done.pages), usable_blocks=4)
    assert (cache.cached_pages, cache.idle_pages, cache.available, cache.blocks) == (4, 4, 16, 4)


def test_another_prompt_matches_as_far_as_it_is_the_same() -> None:
    cache = kv_cache()
    done = serve(cache, PROMPT)
    assert cache.match(names((1, 2, 9, 4))).pages == tuple(done.pages[:2])
    assert cache.match(names((2, 3, 4))) == Match()
    assert cache.match([]) == Match()


def test_only_what_begins_a_prompt_matches() -> None:
    cache = kv_cache()
    serve(cache, PROMPT)
    assert cache.match(names(PROMPT)[1:]) == Match()
    assert cache.match([*names((9,)), *names(PROMPT)]) == Match()
    assert len(cache.match([*names(PROMPT)[:2], *names((9,)), *names(PROMPT)[2:]]).pages) == 2


def test_the_limit_bounds_what_is_usable_and_not_what_is_held() -> None:
    cache = kv_cache()
    serve(cache, PROMPT)
    match = cache.match(names(PROMPT), limit_blocks=3)
    assert (len(match.pages), match.usable_blocks) == (4, 3)


def test_a_hybrid_prefix_is_usable_up_to_its_deepest_snapshot() -> None:
    cache = hybrid_cache()
    serve(cache, PROMPT, snapshots=(1, 3))
    assert cache.match(names(PROMPT)).usable_blocks == 3
    assert cache.match(names(PROMPT), limit_blocks=2).usable_blocks == 1
    assert len(snapshot_of(cache, PROMPT)) == 2
    assert snapshot_of(cache, PROMPT) != snapshot_of(cache, (1,))
    assert cache.match(names((1, 2, 9))) == Match(cache.match(names((1, 2))).pages, 1, snapshot_of(cache, (1,)), 2)


def test_kv_without_a_snapshot_is_held_and_not_usable() -> None:
    cache = hybrid_cache()
    serve(cache, PROMPT)
    match = cache.match(names(PROMPT))
    assert (len(match.pages), match.usable_blocks, match.snapshot) == (4, 0, ())


def test_a_branch_is_where_another_prompt_goes_on() -> None:
    cache = kv_cache()
    serve(cache, PROMPT)
    assert cache.match(names((1, 2, 9))).branch_blocks == 2
    assert cache.match(names((*PROMPT, 5))).branch_blocks == 0


def test_a_pin_keeps_pages_until_they_are_released() -> None:
    cache = hybrid_cache(pages=8)
    serve(cache, PROMPT, snapshots=(3,))
    match = cache.match(names(PROMPT))
    assert cache.pin_cost(match, 3, snapshot=True) == 5
    pinned = cache.pin(match, 3, snapshot=True)
    assert pinned == match.pages[:3]
    assert cache.pin_cost(match, 3, snapshot=True) == 0
    assert cache.available == 3
    assert cache.allocate(4) is None
    cache.release(pinned + match.snapshot)
    assert cache.allocate(8) is not None


def test_a_match_is_not_good_after_an_eviction() -> None:
    cache = kv_cache(pages=4)
    serve(cache, PROMPT)
    match = cache.match(names(PROMPT))
    assert cache.allocate(1) is not None
    with pytest.raises(UnknownBlockError):
        cache.pin(match, 1, snapshot=False)
    assert cache.unknown_blocks == 1
    assert cache.pin(match, 0, snapshot=False) == ()


def test_an_allocation_that_cannot_be_evicts_nothing() -> None:
    cache = kv_cache(pages=6)
    serve(cache, PROMPT)
    held = cache.allocate(1)
    assert held is not None
    before = cache.holdings()
    assert cache.allocate(6) is None
    assert cache.holdings() == before
    assert cache.evicted_blocks == 0
    assert cache.allocate(5) is not None
    assert cache.evicted_blocks == 4


def test_two_that_compute_the_same_share_the_first_ones_pages_from_then_on() -> None:
    cache = kv_cache()
    first, second = admit(cache, PROMPT), admit(cache, PROMPT)
    assert first is not None
    assert second is not None
    compute(cache, first, 3)
    compute(cache, second, 4)
    assert second.extra == first.pages[:3]
    assert cache.match(names(PROMPT)).pages == (*first.pages[:3], second.pages[3])
    cache.release(first.held)
    assert cache.idle_pages == 0, "the second one holds its block's ancestors"
    cache.release(second.held)
    assert (cache.pool.used, cache.idle_pages) == (4, 4)


def test_inserting_ones_own_blocks_again_changes_nothing() -> None:
    cache = kv_cache()
    pages = cache.allocate(2)
    assert pages is not None
    for _ in range(2):
        assert cache.insert_blocks(None, names((1, 2)), pages, [(1,), (2,)]) == ()
    assert [cache.pool.refs(p) for p in pages] == [2, 2]


def test_blocks_after_an_unknown_one_are_refused() -> None:
    cache = kv_cache()
    pages = cache.allocate(1)
    assert pages is not None
    with pytest.raises(UnknownBlockError):
        cache.insert_blocks(names((1,))[0], names((1, 2))[1:], pages, [(2,)])
    assert (cache.unknown_blocks, cache.blocks, cache.pool.refs(pages[0])) == (1, 0, 1)


def test_a_block_that_is_known_after_another_one_is_refused() -> None:
    cache = kv_cache()
    pages = cache.allocate(3)
    assert pages is not None
    one, two = names((1, 2))
    cache.insert_blocks(None, [one, two], pages[:2], [(1,), (2,)])
    with pytest.raises(UnknownBlockError):
        cache.insert_blocks(None, [two], pages[2:], [(2,)])
    with pytest.raises(UnknownBlockError):
        cache.insert_blocks(None, [*names((9,)), two], pages[1:], [(9,), (2,)])
    assert cache.blocks == 2
    cache.check()


def test_blocks_after_one_that_nobody_holds_are_refused() -> None:
    cache = kv_cache()
    serve(cache, (1,))
    pages = cache.allocate(1)
    assert pages is not None
    with pytest.raises(PoolError, match="held by nobody"):
        cache.insert_blocks(names((1,))[0], names((1, 2))[1:], pages, [(2,)])


def test_pages_that_are_not_the_callers_to_give_are_refused() -> None:
    cache = hybrid_cache()
    pages = cache.allocate(3)
    assert pages is not None
    one = names((1,))
    with pytest.raises(PoolError):
        cache.insert_blocks(None, one, (31,), [(1,)])
    cache.insert_blocks(None, one, pages[:1], [(1,)])
    with pytest.raises(PoolError):
        cache.insert_blocks(None, names((2,)), pages[:1], [(2,)])
    with pytest.raises(PoolError):
        cache.insert_snapshot(one[0], (pages[1], 31))
    assert (cache.blocks, cache.snapshots, cache.cached_pages) == (1, 0, 1)
    cache.check()


def test_a_block_has_one_snapshot() -> None:
    cache = hybrid_cache()
    pages = cache.allocate(5)
    assert pages is not None
    name = names((1,))[0]
    with pytest.raises(UnknownBlockError):
        cache.insert_snapshot(name, pages[1:3])
    cache.insert_blocks(None, [name], pages[:1], [(1,)])
    assert not cache.has_snapshot(name)
    assert cache.insert_snapshot(name, pages[1:3])
    assert not cache.insert_snapshot(name, pages[3:])
    assert cache.has_snapshot(name)
    assert [cache.pool.refs(p) for p in pages] == [2, 2, 2, 1, 1]
    assert cache.unknown_blocks == 1


def test_release_of_what_nobody_holds_is_refused_whole() -> None:
    cache = kv_cache()
    done = serve(cache, PROMPT)
    pages = cache.allocate(2)
    assert pages is not None
    with pytest.raises(PoolError):
        cache.release([*pages, done.pages[0]])
    assert cache.available == 14


def test_a_cache_that_is_off_keeps_nothing_and_still_gives_pages() -> None:
    cache = PrefixCache(PagePool(8), block_tokens=1, state_pages=2, enabled=False, record_changes=True)
    serve(cache, PROMPT)
    assert cache.match(names(PROMPT)) == Match()
    assert cache.lease(names(PROMPT), 1.0) is None
    assert not cache.insert_snapshot(names(PROMPT)[0], (0, 1))
    assert (cache.pool.used, cache.take_changes(), cache.holdings()) == (0, [], [])


def test_a_lease_keeps_the_usable_part_until_it_expires() -> None:
    cache = hybrid_cache(pages=8)
    serve(cache, PROMPT, snapshots=(2,))
    lease = cache.lease(names(PROMPT), until_s=5.0)
    assert lease is not None
    assert cache.leases == 1
    assert cache.available == 4
    assert cache.allocate(4) is not None
    assert cache.match(names(PROMPT)).usable_blocks == 2
    assert cache.expire_leases(4.9) == 0
    assert cache.expire_leases(5.0) == 1
    assert cache.available == 4
    with pytest.raises(LeaseError):
        cache.end_lease(lease)
    assert (cache.stale_leases, cache.leases) == (1, 0)


def test_nothing_usable_is_no_lease() -> None:
    cache = hybrid_cache()
    serve(cache, PROMPT)
    assert cache.lease(names(PROMPT), until_s=5.0) is None
    assert cache.idle_pages == 4


def test_changes_and_holdings_name_blocks_as_they_come_and_go() -> None:
    cache = hybrid_cache(pages=6, record_changes=True)
    serve(cache, (1, 2), snapshots=(2,))
    one, two = names((1, 2))
    stored = [Stored("kv", one, None, (1,)), Stored("kv", two, one, (2,)), Stored("state", two, one, ())]
    assert cache.take_changes() == stored
    assert cache.holdings() == [Stored("kv", one, None, ()), Stored("kv", two, one, ()), Stored("state", two, one, ())]
    assert cache.allocate(5) is not None
    assert cache.take_changes() == [Removed("state", two), Removed("kv", two)]
    assert (cache.evicted_snapshots, cache.evicted_blocks, cache.blocks) == (1, 1, 1)


def test_clearing_an_idle_cache_is_one_change() -> None:
    cache = kv_cache(record_changes=True)
    serve(cache, PROMPT)
    cache.clear()
    assert cache.take_changes() == [Cleared()]
    assert (cache.pool.used, cache.evicted_blocks) == (0, 0)


def test_clearing_leaves_what_is_in_use() -> None:
    cache = kv_cache(record_changes=True)
    serve(cache, PROMPT)
    pinned = cache.pin(cache.match(names(PROMPT)), 2, snapshot=False)
    cache.take_changes()
    cache.clear()
    hashes = names(PROMPT)
    assert cache.take_changes() == [Removed("kv", hashes[3]), Removed("kv", hashes[2])]
    assert cache.match(hashes).pages == pinned


def test_whoever_holds_pages_holds_the_blocks_before_them() -> None:
    cache = hybrid_cache(pages=8)
    pages = serve(cache, PROMPT, snapshots=(4,)).pages
    held = cache.hold([pages[2], *snapshot_of(cache, PROMPT)])
    assert set(held) == {*pages[:3], *snapshot_of(cache, PROMPT)}
    assert cache.available == 3
    assert cache.allocate(3) is not None
    assert len(cache.match(names(PROMPT)).pages) == 3
    cache.check()
    cache.release(held)
    with pytest.raises(PoolError):
        hybrid_cache().hold([0])


def test_what_is_forgotten_is_not_found_and_its_holders_keep_it() -> None:
    cache = hybrid_cache(record_changes=True)
    serve(cache, PROMPT, snapshots=(2, 4))
    match = cache.match(names(PROMPT))
    pinned = cache.pin(match, 4, snapshot=True)
    cache.take_changes()
    one, two, three, four = names(PROMPT)
    cache.forget([two, three, four, *names((9,))])
    assert cache.take_changes() == [
        Removed("state", four), Removed("kv", four), Removed("kv", three), Removed("state", two), Removed("kv", two)
    ]  # fmt: skip
    assert cache.match([one, two]).pages == pinned[:1]
    assert [cache.pool.refs(page) for page in pinned] == [2, 1, 1, 1]
    with pytest.raises(UnknownBlockError):
        cache.pin(match, 4, snapshot=True)
    cache.release(pinned + match.snapshot)
    cache.check()
    assert cache.pool.used == 1


def test_what_follows_a_forgotten_block_is_forgotten_with_it() -> None:
    cache = hybrid_cache()
    serve(cache, PROMPT, snapshots=(2, 4))
    one, *later = names(PROMPT)
    assert cache.forget(names(PROMPT)[1:2]) == frozenset(later)
    assert (cache.blocks, cache.snapshots) == (1, 0)
    assert len(cache.match([one, *later]).pages) == 1
    cache.check()
    cache.clear()
    assert cache.pool.used == 0


def test_check_finds_a_holder_without_its_blocks_ancestors() -> None:
    cache = kv_cache()
    serve(cache, PROMPT)
    cache.check()
    cache.pool.share([cache.match(names(PROMPT)).pages[3]])
    with pytest.raises(PoolError, match="is held"):
        cache.check()

"""What a sequence holds, and what stays free for others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.scheduler.memory import WATERMARK_SHARE, SequenceMemory, watermark_pages
from prfaas.scheduler.sequence import Mode, Sequence
from tests.scheduler.fake_instance import PAGE, request


@given(st.integers(0, 1000), st.integers(1, 5000))
def test_the_watermark_is_a_page_for_each_up_to_a_share_of_the_pool(num_growing: int, num_pages: int) -> None:
    kept = watermark_pages(num_growing, num_pages)
    assert (kept == 0) == (num_growing == 0)
    assert kept == num_growing or 0 <= kept * WATERMARK_SHARE - num_pages < WATERMARK_SHARE
    assert kept <= num_growing


def memory(pages: int, state_pages: int = 0, *, cached: bool = False) -> tuple[PrefixCache, SequenceMemory]:
    cache = PrefixCache(PagePool(pages), block_tokens=PAGE, state_pages=state_pages, enabled=cached)
    return cache, SequenceMemory(cache, SnapshotPolicy(PAGE, 0))


@pytest.mark.parametrize(
    ("pages", "state_pages", "keep_free", "fits"),
    [(3, 0, 0, True), (3, 0, 1, False), (2, 0, 0, False), (5, 2, 0, True), (4, 2, 0, False)],
)
def test_all_pages_or_none(pages: int, state_pages: int, keep_free: int, fits: bool) -> None:
    cache, held = memory(pages, state_pages)
    sequence = Sequence(request("a", 2 * PAGE + 1), Mode.SERVE)
    assert held.reserve(sequence, keep_free) == fits
    assert cache.pool.used == (3 + state_pages if fits else 0)
    assert len(sequence.pages) == (3 if fits else 0)
    assert len(sequence.state_pages) == (state_pages if fits else 0)


def test_a_page_more_is_taken_only_where_the_last_is_full() -> None:
    cache, held = memory(2)
    sequence = Sequence(request("a", 2), Mode.SERVE)
    assert held.reserve(sequence, keep_free=0)
    grown = []
    for sequence.computed_tokens in range(2, 9):
        grown.append((held.grow(sequence), len(sequence.pages)))
    assert grown == [(True, 1), (True, 1), (True, 2), (True, 2), (True, 2), (True, 2), (False, 2)]
    held.free(sequence)
    assert sequence.pages == ()
    assert cache.pool.used == 0

"""What a sequence holds, and what stays free for others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.pool import PagePool
from prfaas.scheduler.memory import WATERMARK_SHARE, SequenceMemory, watermark_pages
from prfaas.scheduler.sequence import Mode, Sequence
from tests.scheduler.fake_instance import PAGE, request


@given(st.integers(0, 1000), st.integers(1, 5000))
def test_the_watermark_is_a_page_for_each_up_to_a_share_of_the_pool(num_growing: int, num_pages: int) -> None:
    kept = watermark_pages(num_growing, num_pages)
    assert (kept == 0) == (num_growing == 0)
    assert kept == num_growing or 0 <= kept * WATERMARK_SHARE - num_pages < WATERMARK_SHARE
    assert kept <= num_growing


@pytest.mark.parametrize(
    ("pages", "slots", "keep_free", "fits"), [(3, 1, 0, True), (3, 1, 1, False), (2, 1, 0, False), (3, 0, 0, False)]
)
def test_pages_and_slot_together_or_neither(pages: int, slots: int, keep_free: int, fits: bool) -> None:
    pools = PagePool(pages), PagePool(slots, "state slot")
    sequence = Sequence(request("a", 2 * PAGE + 1), Mode.SERVE)
    assert SequenceMemory(*pools, PAGE).reserve(sequence, keep_free) == fits
    assert (pools[0].used, pools[1].used) == ((3, 1) if fits else (0, 0))
    assert len(sequence.pages) == pools[0].used


def test_a_page_more_is_taken_only_where_the_last_is_full() -> None:
    pools = PagePool(2), PagePool(1, "state slot")
    memory, sequence = SequenceMemory(*pools, PAGE), Sequence(request("a", 2), Mode.SERVE)
    assert memory.reserve(sequence, keep_free=0)
    held = []
    for sequence.computed_tokens in range(2, 9):
        held.append((memory.grow(sequence), len(sequence.pages)))
    assert held == [(True, 1), (True, 1), (True, 2), (True, 2), (True, 2), (True, 2), (False, 2)]
    memory.free(sequence)
    assert sequence.pages == ()
    assert pools[0].used == pools[1].used == 0

"""What is timed is what is said: the calls work on the real index, whatever time they take."""

import pytest

from benchmarks.prefix_replay import bookkeeping


@pytest.mark.parametrize("state_pages", [0, 5])
@pytest.mark.parametrize("evicting", [False, True])
def test_matching_is_timed_on_a_prompt_that_is_held_whole(state_pages: int, evicting: bool) -> None:
    assert bookkeeping.match_ms(640, state_pages, rounds=30, evicting=evicting) > 0


def test_hashing_is_timed() -> None:
    assert bookkeeping.hash_ms(640, rounds=3) > 0


def test_the_index_of_a_process_is_weighed() -> None:
    """The name of a block alone is an object of 49 bytes."""
    assert 49 < bookkeeping.index_bytes_per_block(50_000) < 1000

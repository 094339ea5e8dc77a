"""Bit flips: as many as asked for, single bits, anywhere, the same for the same seed."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.relay.bit_flips import BitFlips

MEGABYTE = bytes(1 << 20)


def flipped_bits(before: bytes, after: bytes) -> int:
    assert len(before) == len(after)
    return (int.from_bytes(before, "little") ^ int.from_bytes(after, "little")).bit_count()


def test_a_sound_link_hands_on_the_chunk_itself() -> None:
    flips = BitFlips(0.0, Random(0))
    assert all(flips.apply(MEGABYTE) is MEGABYTE for _ in range(10))
    assert flips.flipped == 0


def test_the_rate_is_about_what_was_asked_for() -> None:
    flips = BitFlips(100_000.0, Random(1))
    for _ in range(20):
        flips.apply(MEGABYTE)
    assert flips.flipped == pytest.approx(100_000 * 20 * len(MEGABYTE) / 1e9, rel=0.1)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30), st.integers(0, 5), st.sampled_from([1e5, 1e7, 1e9]))
def test_every_flip_is_counted_and_changes_one_bit(sizes: list[int], seed: int, per_gb: float) -> None:
    flips = BitFlips(per_gb, Random(seed))
    changed = sum(flipped_bits(bytes(size), flips.apply(bytes(size))) for size in sizes)
    assert changed == flips.flipped


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(0, 5))
def test_how_the_stream_is_cut_changes_nothing(sizes: list[int], seed: int) -> None:
    cut, whole = BitFlips(1e7, Random(seed)), BitFlips(1e7, Random(seed))
    assert b"".join(cut.apply(bytes(size)) for size in sizes) == whole.apply(bytes(sum(sizes)))


def test_a_new_rate_holds_from_now_on() -> None:
    flips = BitFlips(0.0, Random(2))
    flips.set_rate(1e5)
    assert flips.apply(MEGABYTE) != MEGABYTE
    flipped = flips.flipped
    flips.set_rate(0.0)
    assert flips.apply(MEGABYTE) is MEGABYTE
    assert flips.flipped == flipped

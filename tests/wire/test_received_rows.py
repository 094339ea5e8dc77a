"""Rows that arrived, against a plain set of integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.wire.header import Codec
from prfaas.wire.received_rows import Arrival, Overlap, ReceivedRows

ROWS = 24
RANGES = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, 8)).map(lambda r: (r[0], r[0] + r[1])))


def arrival(start: int, end: int) -> Arrival:
    return Arrival(start, end, Codec.RAW, end - start, start * 100 + end)


def expected_overlap(start: int, end: int, objects: set[tuple[int, int]]) -> Overlap:
    if (start, end) in objects:
        return Overlap.WHOLE
    arrived = {row for first, last in objects for row in range(first, last)}
    return Overlap.NONE if arrived.isdisjoint(range(start, end)) else Overlap.PART


@given(RANGES)
def test_against_a_set_of_rows(ranges: list[tuple[int, int]]) -> None:
    rows = ReceivedRows()
    objects: set[tuple[int, int]] = set()
    for start, end in ranges:
        overlap = rows.overlap(start, end)
        assert overlap is expected_overlap(start, end, objects)
        if overlap is Overlap.NONE:
            rows.add(arrival(start, end))
            objects.add((start, end))
    arrived = {row for start, end in objects for row in range(start, end)}
    assert len(rows) == len(objects)
    assert list(rows) == [arrival(*found) for found in sorted(objects)]
    runs = list(rows.ranges())
    assert {row for start, end in runs for row in range(start, end)} == arrived
    assert all(start < end and end not in arrived and start - 1 not in arrived for start, end in runs)
    for row in range(ROWS + 9):
        assert rows.reach(row) == next(r for r in range(row, ROWS + 10) if r not in arrived)
        assert rows.at(row) == next((arrival(*found) for found in objects if found[0] == row), None)


def test_adding_over_what_arrived_is_our_mistake() -> None:
    rows = ReceivedRows()
    rows.add(arrival(2, 5))
    for start, end in [(2, 5), (0, 3), (4, 9), (3, 4), (0, 9)]:
        with pytest.raises(AssertionError):
            rows.add(arrival(start, end))
    rows.add(arrival(0, 2))
    rows.add(arrival(5, 9))
    assert list(rows.ranges()) == [(0, 9)]

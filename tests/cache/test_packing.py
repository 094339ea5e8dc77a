from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.packing import pack

PAGE = 100
sizes = st.lists(st.integers(1, PAGE), max_size=60)


def first_fit_decreasing(rows: list[int]) -> list[int]:
    """As the textbook has it: bytes used of each page."""
    used: list[int] = []
    for size in sorted(rows, reverse=True):
        fits = [i for i, bytes_used in enumerate(used) if bytes_used + size <= PAGE]
        if fits:
            used[fits[0]] += size
        else:
            used.append(size)
    return used


@given(sizes)
def test_rows_do_not_overlap_and_fill_pages_from_their_start(rows: list[int]) -> None:
    pages = defaultdict(list)
    for (page, offset), size in zip(pack(rows, PAGE), rows, strict=True):
        pages[page].append((offset, size))
    assert sorted(pages) == list(range(len(pages)))
    for found in pages.values():
        end = 0
        for offset, size in sorted(found):
            assert offset == end
            end = offset + size
        assert end <= PAGE


@given(sizes)
def test_pages_are_those_of_first_fit_decreasing(rows: list[int]) -> None:
    used: defaultdict[int, int] = defaultdict(int)
    for (page, _), size in zip(pack(rows, PAGE), rows, strict=True):
        used[page] += size
    assert [used[page] for page in range(len(used))] == first_fit_decreasing(rows)


def test_equal_rows_keep_their_order() -> None:
    assert pack([30, 50, 30, 30, 50, 30], PAGE) == [(1, 0), (0, 0), (1, 30), (1, 60), (0, 50), (2, 0)]
    assert pack([], PAGE) == []

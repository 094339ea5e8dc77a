"""Rows of several sizes packed into as few pages as first-fit decreasing finds. Does not know what a row is."""

from collections.abc import Sequence


def pack(sizes: Sequence[int], page_bytes: int) -> list[tuple[int, int]]:
    """For each of `sizes`, none above `page_bytes`, its page and its offset there; largest first, equals in order.

    First-fit decreasing (Johnson 1973) needs at most 11/9 of the fewest pages and one more. Rows of one size fill page
    after page, so that those that follow each other in a tensor mostly do so in memory.
    """
    assert all(size <= page_bytes for size in sizes)
    places = [(0, 0)] * len(sizes)
    used: list[int] = []
    page, last_size = 0, 0
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = sizes[i]
        if size != last_size:
            page, last_size = 0, size  # a page that one row of a size did not fit in takes no other of that size
        while page < len(used) and used[page] + size > page_bytes:
            page += 1
        if page == len(used):
            used.append(0)
        places[i] = (page, used[page])
        used[page] += size
    return places

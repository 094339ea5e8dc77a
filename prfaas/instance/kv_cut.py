"""How many rows of a tensor make an object. Pure."""

from collections.abc import Iterator

TOGETHER_ROWS = 64
"""Rows that share a scale in `int8_channel`: a cut between them costs bytes."""


def cut(start: int, end: int, row_bytes: int, frame_bytes: int) -> Iterator[tuple[int, int]]:
    """Rows [start, end) in pieces of about equal size, none above the frame's; no piece where there is no row.

    Where a frame holds so many rows, pieces have whole groups of `TOGETHER_ROWS`, but for the last.
    """
    most = max(1, frame_bytes // row_bytes)
    step = TOGETHER_ROWS if most >= TOGETHER_ROWS else 1
    most -= most % step
    rows = max(0, end - start)
    pieces = -(-rows // most)
    if not pieces:
        return
    size = -(-rows // pieces)
    size += -size % step
    for first in range(start, end, size):
        yield first, min(end, first + size)

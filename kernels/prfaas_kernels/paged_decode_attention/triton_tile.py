"""Tiles of rows whose width fills a power of two or not, in Triton. Knows nothing of what the rows are."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl


@triton.jit
def load_tile(rows, column, there, WIDTH: tl.constexpr, SIZE: tl.constexpr):
    """`SIZE` of `WIDTH` channels at pointers `rows` [N, 1] where `there` [N], zeros elsewhere: [N, WIDTH]."""
    if WIDTH == SIZE:
        return tl.load(rows + column[None, :], mask=there[:, None], other=0.0)
    return tl.load(rows + column[None, :], mask=there[:, None] & (column < SIZE)[None, :], other=0.0)


def first_part(size: int) -> int:
    """Channels of a head that fill a first tile: 192 = 128 + 64 saves the matrix work of a tile of 256."""
    whole = 1 << (size.bit_length() - 1)
    return size if size <= 16 or size == whole else whole

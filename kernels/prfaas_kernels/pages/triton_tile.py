"""How kernels that move rows are cut into programs, and what they move rows as. No kernel is here."""

import torch
from torch import Tensor

from prfaas_kernels.launch import block

_BYTES = 8192  # of one program: four loads of 16 bytes in flight for each of its threads
_NARROWEST_BYTES = 128  # a row's share of a tile; less wastes parts of what memory hands out at once
_MOST_ROWS = 64  # so that few short rows are still moved by some programs

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def as_integers(x: Tensor, size: int) -> Tensor:
    """`x` as integers of `size` bytes, which are moved without a bit of a NaN changing."""
    return x.view(_INTEGERS[size])


def tile(width: int, size: int) -> tuple[int, int]:
    """Rows of `width` elements of `size` bytes, and columns of them, for one program: one long row, or many short.

    Columns are a power of two; the widest that covers a row with at most an eighth of the tiles' lanes idle.
    """
    columns = min(block(width), _BYTES // size)
    while columns * size > _NARROWEST_BYTES and -width % columns * 8 > width:
        columns //= 2
    return min(_MOST_ROWS, _BYTES // size // columns), columns

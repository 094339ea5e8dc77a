"""Moving rows by a compiled kernel, else by torch's copies of indexed units."""

import math

import torch
from torch import Tensor

from prfaas_kernels.pages import compiled

_LARGEST_UNIT_BYTES = 64


def gather_rows(arena: Tensor, offsets: Tensor, width: int, dtype: torch.dtype, start: int = 0) -> Tensor:
    """Elements [start, start + width) of rows that begin at `offsets`, as a dense copy.

    `arena` [bytes] uint8, `offsets` [n] or [B, n] int64 in bytes, multiples of 64. Returns [*offsets.shape, width].
    """
    out = torch.empty(*offsets.shape, width, dtype=dtype, device=arena.device)
    if compiled.fits(arena, offsets):
        compiled.move_rows(arena, offsets, out, start, to_pages=False)
    elif out.numel():
        units, index = _units(arena, offsets, out, start)
        torch.index_select(units, 0, index, out=out.view(-1, units.shape[1]))
    return out


def scatter_rows(arena: Tensor, offsets: Tensor, values: Tensor, start: int = 0) -> None:
    """Writes `values` [*offsets.shape, width] to where `gather_rows` reads them; no two rows are the same."""
    assert values.shape[:-1] == offsets.shape
    values = values.contiguous()
    if compiled.fits(arena, offsets):
        compiled.move_rows(arena, offsets, values, start, to_pages=True)
    elif values.numel():
        units, index = _units(arena, offsets, values, start)
        units.index_copy_(0, index, values.view(-1, units.shape[1]))


def _units(arena: Tensor, offsets: Tensor, rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The arena as [N, elements of a unit], and which units make up the rows, one after another."""
    size, width = rows.element_size(), rows.shape[-1]
    unit = math.gcd(_LARGEST_UNIT_BYTES, start * size, width * size)
    whole = arena[: arena.shape[0] // unit * unit]
    within = torch.arange(start * size // unit, (start + width) * size // unit, device=arena.device)
    index = (offsets // unit)[..., None] + within
    return whole.view(rows.dtype).view(-1, unit // size), index.flatten()

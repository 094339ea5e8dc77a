"""What moving rows means: one after another."""

import torch
from torch import Tensor


def gather_rows_reference(arena: Tensor, offsets: Tensor, width: int, dtype: torch.dtype, start: int = 0) -> Tensor:
    """As `gather_rows`."""
    parts = [_elements(arena, offset, start, width, dtype) for offset in offsets.flatten().tolist()]
    return torch.stack(parts).view(*offsets.shape, width)


def scatter_rows_reference(arena: Tensor, offsets: Tensor, values: Tensor, start: int = 0) -> None:
    """As `scatter_rows`."""
    rows = values.flatten(0, -2)
    for offset, row in zip(offsets.flatten().tolist(), rows, strict=True):
        _elements(arena, offset, start, row.shape[0], row.dtype).copy_(row)


def _elements(arena: Tensor, offset: int, start: int, width: int, dtype: torch.dtype) -> Tensor:
    first = offset + start * dtype.itemsize
    return arena[first : first + width * dtype.itemsize].view(dtype)

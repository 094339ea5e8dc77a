"""What moving rows and tokens means: one after another."""

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


def copy_rows_reference(arena: Tensor, read: Tensor, written: Tensor, widths: Tensor) -> None:
    """As `copy_rows`."""
    for sources, targets in zip(read.tolist(), written.tolist(), strict=True):
        for source, target, width in zip(sources, targets, widths.tolist(), strict=True):
            arena[target : target + width] = arena[source : source + width]


def write_tokens_reference(values: Tensor, pages: Tensor, token_pages: Tensor, token_offsets: Tensor) -> None:
    """As `write_tokens`."""
    for value, page, offset in zip(values, token_pages.tolist(), token_offsets.tolist(), strict=True):
        pages[page, offset] = value


def gather_tokens_reference(pages: Tensor, page_ids: Tensor, start: int, stop: int) -> Tensor:
    """As `gather_tokens`."""
    tokens = [pages[page_ids[t // pages.shape[1]], t % pages.shape[1]] for t in range(start, stop)]
    return torch.stack(tokens) if tokens else pages.new_empty(0, *pages.shape[2:])


def scatter_tokens_reference(values: Tensor, pages: Tensor, page_ids: Tensor, start: int) -> None:
    """As `scatter_tokens`."""
    for t, value in enumerate(values, start):
        pages[page_ids[t // pages.shape[1]], t % pages.shape[1]] = value


def _elements(arena: Tensor, offset: int, start: int, width: int, dtype: torch.dtype) -> Tensor:
    first = offset + start * dtype.itemsize
    return arena[first : first + width * dtype.itemsize].view(dtype)

"""Moving rows by a compiled kernel, else by torch's copies of indexed units; and tokens by torch's indexing."""

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


def copy_rows(arena: Tensor, read: Tensor, written: Tensor, widths: Tensor, longest: int) -> None:
    """Copies rows within `arena` [bytes] uint8: the R rows of each of n sequences, as a snapshot of its states does.

    `read` and `written` [n, R] int64 are the bytes at which rows begin, multiples of 4; no written row is written
    twice or read. `widths` [R] int64 are bytes, multiples of 4, at most `longest`, which is known without reading them.
    """
    sizes = widths.tolist()
    assert max(sizes, default=0) <= longest
    for size in set(sizes):
        columns = widths == size
        rows = gather_rows(arena, read[:, columns], size // 4, torch.int32)
        scatter_rows(arena, written[:, columns], rows)


def write_tokens(values: Tensor, pages: Tensor, token_pages: Tensor, token_offsets: Tensor) -> None:
    """Puts each token's entry, `values` [T, *dims], at its offset of its page, of `pages` [N, page_tokens, *dims].

    `token_pages`, `token_offsets` [T] int64; no two tokens have the same place.
    """
    pages.index_put_((token_pages, token_offsets), values)


def gather_tokens(pages: Tensor, page_ids: Tensor, start: int, stop: int) -> Tensor:
    """A copy of the entries of tokens [start, stop) of a sequence whose pages are `page_ids` [P] int64, in order.

    `pages` [N, page_tokens, *dims]. Returns [stop - start, *dims].
    """
    return pages[_places(pages, page_ids, start, stop)]


def scatter_tokens(values: Tensor, pages: Tensor, page_ids: Tensor, start: int) -> None:
    """Writes `values` [n, *dims] to where `gather_tokens` reads tokens [start, start + n)."""
    pages.index_put_(_places(pages, page_ids, start, start + values.shape[0]), values)


def _places(pages: Tensor, page_ids: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Page and offset in it of tokens [start, stop)."""
    tokens = torch.arange(start, stop, device=pages.device)
    return page_ids[tokens // pages.shape[1]], tokens % pages.shape[1]


def _units(arena: Tensor, offsets: Tensor, rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The arena as [N, elements of a unit], and which units make up the rows, one after another."""
    size, width = rows.element_size(), rows.shape[-1]
    unit = math.gcd(_LARGEST_UNIT_BYTES, start * size, width * size)
    whole = arena[: arena.shape[0] // unit * unit]
    within = torch.arange(start * size // unit, (start + width) * size // unit, device=arena.device)
    index = (offsets // unit)[..., None] + within
    return whole.view(rows.dtype).view(-1, unit // size), index.flatten()

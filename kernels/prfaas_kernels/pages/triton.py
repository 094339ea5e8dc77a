"""Moving rows of states within the arena, and to and from dense tensors, in Triton: copies 16 bytes wide."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import launch
from prfaas_kernels.pages.triton_tile import as_integers, tile
from prfaas_kernels.pages.triton_tokens import gather_tokens, scatter_tokens, write_tokens

__all__ = ["copy_rows", "gather_rows", "gather_tokens", "scatter_rows", "scatter_tokens", "write_tokens"]


@triton.jit(do_not_specialize=["offsets_ptr", "num_rows", "num_columns", "offset_stride", "offset_step"])
def _move_rows_kernel(
    arena_ptr, offsets_ptr, dense_ptr, num_rows, num_columns, offset_stride, offset_step, width, start,
    SIZE: tl.constexpr, TO_ARENA: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    place = (row // num_columns).to(tl.int64) * offset_stride + row % num_columns * offset_step
    offset = tl.multiple_of(tl.load(offsets_ptr + place, mask=row < num_rows, other=0) // SIZE, 64 // SIZE)
    there = (row < num_rows)[:, None] & (column < width)[None, :]
    in_arena = arena_ptr + offset[:, None] + start + column[None, :]
    in_dense = dense_ptr + row.to(tl.int64)[:, None] * width + column[None, :]
    if TO_ARENA:
        tl.store(in_arena, tl.load(in_dense, mask=there), mask=there)
    else:
        tl.store(in_dense, tl.load(in_arena, mask=there), mask=there)


@triton.jit(
    do_not_specialize=[
        "read_ptr", "written_ptr", "widths_ptr", "num_rows", "num_columns",
        "read_stride", "read_step", "written_stride", "written_step", "widths_step",
    ]
)  # fmt: skip
def _copy_rows_kernel(
    arena_ptr, read_ptr, written_ptr, widths_ptr, num_rows, num_columns,
    read_stride, read_step, written_stride, written_step, widths_step,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sequence, which, there = (row // num_columns).to(tl.int64), row % num_columns, row < num_rows
    width = tl.load(widths_ptr + which * widths_step, mask=there, other=0) // 4
    begin = tl.program_id(1) * COLUMNS
    if begin < tl.max(width, axis=0):
        source = tl.load(read_ptr + sequence * read_stride + which * read_step, mask=there, other=0)
        target = tl.load(written_ptr + sequence * written_stride + which * written_step, mask=there, other=0)
        column = begin + tl.arange(0, COLUMNS)[None, :]
        # A rank's share of a row may begin at any word of it.
        if tl.max((source | target) & 15, axis=0) == 0:
            from_, to = tl.multiple_of(source // 4, 4)[:, None], tl.multiple_of(target // 4, 4)[:, None]
            # Fours first, which the compiler sees to be 16 bytes to be moved at once, then the up to three left.
            fours = width // 4 * 4
            whole = column < fours[:, None]
            tl.store(arena_ptr + to + column, tl.load(arena_ptr + from_ + column, mask=whole), mask=whole)
            last = fours[:, None] + tl.arange(0, 4)[None, :]
            part = (last < width[:, None]) & (last >= begin) & (last < begin + COLUMNS)
            tl.store(arena_ptr + to + last, tl.load(arena_ptr + from_ + last, mask=part), mask=part)
        else:
            # Shifted, not divided: a hint is on the operation, and these have none.
            from_, to = (source >> 2)[:, None], (target >> 2)[:, None]
            word = column < width[:, None]
            tl.store(arena_ptr + to + column, tl.load(arena_ptr + from_ + column, mask=word), mask=word)


def gather_rows(arena: Tensor, offsets: Tensor, width: int, dtype: torch.dtype, start: int = 0) -> Tensor:
    """As `cpu.gather_rows`."""
    out = torch.empty(*offsets.shape, width, dtype=dtype, device=arena.device)
    _move_rows(arena, offsets, out, start, to_arena=False)
    return out


def scatter_rows(arena: Tensor, offsets: Tensor, values: Tensor, start: int = 0) -> None:
    """As `cpu.scatter_rows`."""
    assert values.shape[:-1] == offsets.shape
    _move_rows(arena, offsets, values.contiguous(), start, to_arena=True)


def copy_rows(arena: Tensor, read: Tensor, written: Tensor, widths: Tensor, longest: int) -> None:
    """As `cpu.copy_rows`."""
    (sequences, num_columns), units = read.shape, longest // 4
    rows, columns = tile(units, 4)
    grid = (triton.cdiv(sequences * num_columns, rows), triton.cdiv(units, columns))
    launch(
        _copy_rows_kernel, grid, _whole(arena, 4), read, written, widths, sequences * num_columns, num_columns,
        *read.stride(), *written.stride(), widths.stride(0), ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


def _move_rows(arena: Tensor, offsets: Tensor, dense: Tensor, start: int, *, to_arena: bool) -> None:
    table = offsets if offsets.dim() == 2 else offsets[None]  # [B, n]
    size, begin = _unit(dense, start), start * dense.element_size()
    dense, start = as_integers(dense, size), begin // size
    width = dense.shape[-1]
    rows, columns = tile(width, size)
    grid = (triton.cdiv(offsets.numel(), rows), triton.cdiv(width, columns))
    launch(
        _move_rows_kernel, grid, _whole(arena, size), table, dense, offsets.numel(), table.shape[1],
        *table.stride(), width, start, SIZE=size, TO_ARENA=to_arena, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


def _unit(dense: Tensor, start: int) -> int:
    """Bytes that are moved as one number: four wherever rows and what is moved of them are made of such."""
    size = dense.element_size()
    places = start, dense.shape[-1], dense.storage_offset()
    return 4 if size < 4 and all(place * size % 4 == 0 for place in places) else size


def _whole(arena: Tensor, size: int) -> Tensor:
    """The arena as integers of `size` bytes, less what is not a whole one at its end."""
    return as_integers(arena[: arena.shape[0] // size * size], size)

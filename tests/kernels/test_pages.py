"""Rows in and out of a poisoned arena, against one row after another."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.pages import gather_rows, scatter_rows
from prfaas_kernels.pages.reference import gather_rows_reference, scatter_rows_reference

DTYPES = [torch.float32, torch.bfloat16]
POISON = 0xFF
"""Four of it are a NaN in fp32, and two in bf16."""

pytestmark = pytest.mark.usefixtures("form")


def arena_of(num_rows: int, row_bytes: int, spare: int = 4) -> tuple[Tensor, Tensor]:
    """Poison, a few bytes more than whole rows, and offsets of `num_rows` in random order."""
    size = -(-row_bytes // 64) * 64
    offsets = torch.randperm(num_rows + spare)[:num_rows] * size
    return torch.full(((num_rows + spare) * size + 12,), POISON, dtype=torch.uint8), offsets


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 7, 16, 48, 240, 16384])
def test_what_is_scattered_is_gathered(dtype: torch.dtype, width: int) -> None:
    arena, offsets = arena_of(13, width * dtype.itemsize)
    wanted, values = arena.clone(), torch.randn(13, width).to(dtype)
    scatter_rows(arena, offsets, values)
    scatter_rows_reference(wanted, offsets, values)
    assert torch.equal(arena, wanted)
    found = gather_rows(arena, offsets, width, dtype)
    assert found.dtype == dtype
    assert torch.equal(found, values)
    assert torch.equal(found, gather_rows_reference(arena, offsets, width, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("start", "width"), [(0, 5), (3, 5), (16, 32), (20, 12), (31, 1)])
def test_a_part_of_each_row(dtype: torch.dtype, start: int, width: int) -> None:
    arena, offsets = arena_of(6, 64 * dtype.itemsize)
    scatter_rows_reference(arena, offsets, torch.randn(6, 64).to(dtype))
    wanted, values = arena.clone(), torch.randn(6, width).to(dtype)
    expected = gather_rows_reference(arena, offsets, width, dtype, start)
    assert torch.equal(gather_rows(arena, offsets, width, dtype, start), expected)
    scatter_rows(arena, offsets, values, start)
    scatter_rows_reference(wanted, offsets, values, start)
    assert torch.equal(arena, wanted)


def test_rows_of_several_sequences_by_a_slice_of_their_table() -> None:
    arena, offsets = arena_of(5 * 8, 4 * 24)
    table = offsets.view(5, 8)[:, 2:5]
    values = torch.randn(5, 24, 3).transpose(1, 2)  # [B, n, width], not dense
    scatter_rows(arena, table, values)
    assert torch.equal(gather_rows(arena, table, 24, torch.float32), values)
    for column in (0, 1, 5, 6, 7):
        assert gather_rows(arena, offsets.view(5, 8)[:, column : column + 1], 24, torch.float32).isnan().all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_nothing_to_move(shape: tuple[int, ...]) -> None:
    arena, _ = arena_of(1, 64)
    offsets = torch.zeros(shape, dtype=torch.int64)
    assert gather_rows(arena, offsets, 16, torch.float32).shape == (*shape, 16)
    scatter_rows(arena, offsets, torch.zeros(*shape, 16))
    assert (arena == POISON).all()

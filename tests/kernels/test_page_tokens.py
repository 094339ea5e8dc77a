"""Snapshots of rows, and tokens in and out of pages, on the CPU, against one after another."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.pages.cpu import copy_rows, gather_tokens, scatter_tokens, write_tokens
from prfaas_kernels.pages.reference import (
    copy_rows_reference,
    gather_tokens_reference,
    scatter_tokens_reference,
    write_tokens_reference,
)


def pages_of(num_pages: int, page_tokens: int, dims: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Poisoned pages that each begin some elements after the last has ended."""
    size = page_tokens * torch.Size(dims).numel()
    return torch.full((num_pages, size + 24), torch.nan, dtype=dtype)[:, :size].view(num_pages, page_tokens, *dims)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("widths", [[128], [4, 100, 0, 128, 100]])
@pytest.mark.parametrize("sequences", [0, 1, 4])
def test_snapshots_of_rows_of_several_widths(sequences: int, widths: list[int]) -> None:
    offsets = torch.randperm(2 * sequences * len(widths) + 3)[3:] * 128
    read, written = offsets.view(sequences, len(widths), 2).unbind(-1)
    arena = torch.randint(256, ((2 * sequences * len(widths) + 3) * 128,), dtype=torch.uint8)
    wanted = arena.clone()
    copy_rows(arena, read, written, torch.tensor(widths), 128)
    copy_rows_reference(wanted, read, written, torch.tensor(widths))
    assert torch.equal(arena, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dims", [(), (72,), (2, 16)])
def test_tokens_are_written_where_their_tables_say(dtype: torch.dtype, dims: tuple[int, ...]) -> None:
    pages, places = pages_of(6, 16, dims, dtype), torch.randperm(6 * 16)[:37]
    wanted, values = pages.clone(), torch.randn(37, 2, *dims).to(dtype)[:, 1]
    write_tokens(values, pages, places // 16, places % 16)
    write_tokens_reference(values, wanted, places // 16, places % 16)
    assert torch.equal(pages.nan_to_num(-1), wanted.nan_to_num(-1))


@pytest.mark.parametrize("dims", [(72,), (2, 16)])
@pytest.mark.parametrize(("start", "stop"), [(0, 80), (0, 16), (5, 9), (15, 17), (79, 80), (23, 23), (3, 77)])
def test_tokens_of_a_sequence_come_and_go_in_order(dims: tuple[int, ...], start: int, stop: int) -> None:
    page_ids = torch.tensor([7, 2, 0, 5, 3, 4])  # the last is past the end
    pages, values = pages_of(8, 16, dims, torch.bfloat16), torch.randn(stop - start, *dims).bfloat16()
    wanted = pages.clone()
    scatter_tokens(values, pages, page_ids, start)
    scatter_tokens_reference(values, wanted, page_ids, start)
    assert torch.equal(pages.nan_to_num(-1), wanted.nan_to_num(-1))
    found = gather_tokens(pages, page_ids, start, stop)
    assert torch.equal(found, values)
    assert torch.equal(found, gather_tokens_reference(pages, page_ids, start, stop))

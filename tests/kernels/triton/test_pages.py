"""Rows and tokens in and out of poisoned pages by Triton's kernels, against one after another."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prfaas_kernels.pages.reference import (
    copy_rows_reference,
    gather_rows_reference,
    gather_tokens_reference,
    scatter_rows_reference,
    scatter_tokens_reference,
    write_tokens_reference,
)
from prfaas_kernels.pages.triton import (
    copy_rows,
    gather_rows,
    gather_tokens,
    scatter_rows,
    scatter_tokens,
    write_tokens,
)
from tests.kernels.triton.poisoned_states import POISON, sparse_bytes

DTYPES = [torch.float32, torch.bfloat16]


def arena_of(num_bytes: int, device: torch.device) -> Tensor:
    return torch.randint(256, (num_bytes,), dtype=torch.uint8).to(device)


def offsets_of(num_rows: int, row_bytes: int, device: torch.device, spare: int = 3) -> tuple[Tensor, int]:
    """Of rows in random order with room between some of them, and the bytes that all take."""
    size = -(-row_bytes // 64) * 64
    return (torch.randperm(num_rows + spare)[:num_rows] * size).to(device), (num_rows + spare) * size


def pages_of(
    num_pages: int, page_tokens: int, dims: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Poisoned pages that each begin some elements after the last has ended."""
    size = page_tokens * torch.Size(dims).numel()
    block = torch.full((num_pages, size + 24), torch.nan, dtype=dtype, device=device)
    return block[:, :size].view(num_pages, page_tokens, *dims)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 7, 48, 240, 5000])
def test_what_is_scattered_is_gathered(device: torch.device, dtype: torch.dtype, width: int) -> None:
    offsets, num_bytes = offsets_of(13, width * dtype.itemsize, device)
    arena = torch.full((num_bytes + 13,), POISON, dtype=torch.uint8, device=device)
    wanted, values = arena.clone(), torch.randn(13, width, device=device).to(dtype)
    scatter_rows(arena, offsets, values)
    scatter_rows_reference(wanted, offsets, values)
    assert torch.equal(arena, wanted)
    found = gather_rows(arena, offsets, width, dtype)
    assert found.dtype == dtype
    assert torch.equal(found, values)


@pytest.mark.parametrize(("start", "width"), [(0, 5), (3, 5), (16, 32), (20, 12), (31, 1)])
def test_a_part_of_each_row_of_a_slice_of_a_table(device: torch.device, start: int, width: int) -> None:
    offsets, num_bytes = offsets_of(5 * 8, 4 * 64, device)
    arena, table = arena_of(num_bytes, device), offsets.view(5, 8)[:, 1:8:2]
    found = gather_rows(arena, table, width, torch.int32, start)
    assert torch.equal(found, gather_rows_reference(arena, table, width, torch.int32, start))
    wanted, values = arena.clone(), torch.randn(5, width, 4, device=device).transpose(1, 2)
    scatter_rows(arena, table, values, start)
    scatter_rows_reference(wanted, table, values, start)
    assert torch.equal(arena, wanted)


@settings(max_examples=12)
@given(
    sequences=st.integers(0, 5),
    units=st.lists(st.integers(0, 40) | st.sampled_from([2047, 2048, 2050]), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_snapshots_of_rows_of_several_widths(sequences: int, units: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    widths = torch.tensor([4 * unit for unit in units], device=device)
    longest = max(units) * 4
    offsets, num_bytes = offsets_of(2 * sequences * len(units), max(longest, 4), device)
    read, written = offsets.view(sequences, len(units), 2).unbind(-1)
    arena = arena_of(num_bytes, device)
    wanted = arena.clone()
    copy_rows(arena, read, written, widths, longest)
    copy_rows_reference(wanted, read, written, widths)
    assert torch.equal(arena, wanted)


def test_shares_of_rows_begin_at_any_word(device: torch.device) -> None:
    """A rank's share of a row need not begin at 16 bytes; beside it, rows that do."""
    arena, widths = arena_of(64 * 64, device), torch.tensor([40, 48, 4], device=device)
    rows = 256 * torch.arange(12, device=device).view(2, 2, 3) + torch.tensor([40, 0, 12], device=device)
    wanted = arena.clone()
    copy_rows(arena, rows[0], rows[1], widths, 48)
    copy_rows_reference(wanted, rows[0], rows[1], widths)
    assert torch.equal(arena, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("dims", [(), (1,), (5,), (72,), (2, 16)])
def test_tokens_are_written_where_their_tables_say(
    device: torch.device, dtype: torch.dtype, dims: tuple[int, ...]
) -> None:
    poisoned = dtype.is_floating_point
    pages = pages_of(6, 16, dims, dtype, device) if poisoned else torch.zeros(6, 16, *dims, dtype=dtype, device=device)
    wanted = pages.clone()
    places = torch.randperm(6 * 16)[:37].to(device)
    values = (9 * torch.randn(37, *dims, device=device)).to(dtype)
    write_tokens(values, pages, places // 16, places % 16)
    write_tokens_reference(values, wanted, places // 16, places % 16)
    assert torch.equal(pages.nan_to_num(-1), wanted.nan_to_num(-1))
    assert not poisoned or pages.isnan().sum() == (6 * 16 - 37) * torch.Size(dims).numel()


@pytest.mark.parametrize("dense_entries", [True, False])
def test_written_tokens_may_be_slices_of_wider_rows(device: torch.device, dense_entries: bool) -> None:
    wide = torch.randn(20, 3, 48, device=device)
    values = wide[:, 1:] if dense_entries else wide[:, :2, 16:32]
    pages = pages_of(4, 8, values.shape[1:], torch.float32, device)
    places = torch.randperm(4 * 8)[:20].to(device)
    write_tokens(values, pages, places // 8, places % 8)
    assert torch.equal(pages[places // 8, places % 8], values)


def test_entries_may_be_parts_of_what_a_page_has_of_a_token(device: torch.device) -> None:
    pages = pages_of(4, 8, (3, 2, 16), torch.float32, device)[:, :, 1]
    values, page_ids = torch.randn(20, 2, 16, device=device), torch.tensor([3, 0, 2], device=device)
    tokens = torch.arange(2, 22, device=device)
    write_tokens(values, pages, page_ids[tokens // 8], tokens % 8)
    assert torch.equal(gather_tokens_reference(pages, page_ids, 2, 22), values)
    scatter_tokens(-values, pages, page_ids, 2)
    assert torch.equal(gather_tokens(pages, page_ids, 2, 22), -values)
    assert torch.equal(gather_tokens_reference(pages, page_ids, 2, 22), -values)


def test_no_tokens_are_written(device: torch.device) -> None:
    pages = pages_of(2, 8, (4,), torch.float32, device)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    write_tokens(torch.zeros(0, 4, device=device), pages, none, none)
    assert pages.isnan().all()


@pytest.mark.parametrize("dims", [(72,), (2, 16)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("start", "stop"), [(0, 80), (0, 16), (5, 9), (15, 17), (31, 32), (79, 80), (23, 23), (3, 77)])
def test_tokens_of_a_sequence_come_and_go_in_order(
    device: torch.device, dims: tuple[int, ...], dtype: torch.dtype, start: int, stop: int
) -> None:
    page_ids = torch.tensor([7, 2, 0, 5, 3, 4], device=device)  # the last is past the end
    pages, values = pages_of(8, 16, dims, dtype, device), torch.randn(stop - start, *dims, device=device).to(dtype)
    wanted = pages.clone()
    scatter_tokens(values, pages, page_ids, start)
    scatter_tokens_reference(values, wanted, page_ids, start)
    assert torch.equal(pages.nan_to_num(-1), wanted.nan_to_num(-1))
    found = gather_tokens(pages, page_ids, start, stop)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert torch.equal(found, values)
    assert torch.equal(found, gather_tokens_reference(pages, page_ids, start, stop))


@settings(max_examples=12)
@given(
    page_tokens=st.sampled_from([1, 3, 16, 64]),
    num_pages=st.integers(1, 5),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    width=st.sampled_from([1, 20, 576]),
    seed=st.integers(0, 99),
)
def test_any_range_of_any_pages(
    page_tokens: int, num_pages: int, cut: tuple[float, float], width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start, stop = sorted(int(where * num_pages * page_tokens) for where in cut)
    pages = pages_of(num_pages + 2, page_tokens, (width,), torch.bfloat16, device)
    page_ids = torch.randperm(num_pages + 2)[:num_pages].to(device)
    values = torch.randn(stop - start, width, device=device).bfloat16()
    scatter_tokens(values, pages, page_ids, start)
    assert pages.isnan().sum() == (pages.shape[0] * page_tokens - (stop - start)) * width
    assert torch.equal(gather_tokens(pages, page_ids, start, stop), values)


def test_rows_and_pages_far_into_memory(device: torch.device, tmp_path: Path) -> None:
    """Offsets of more elements than 31 bits count."""
    base = 2**33
    arena = sparse_bytes(base + 4096, tmp_path, device)
    near, far, back = (torch.tensor([[first, first + 128]], device=device) for first in (256, base, 512))
    values, widths = torch.randn(1, 2, 20, device=device), torch.tensor([80, 80], device=device)
    scatter_rows(arena, near, values)
    copy_rows(arena, near, far, widths, 80)
    assert torch.equal(gather_rows(arena, far, 20, torch.float32), values)
    scatter_rows(arena, far, -values)
    assert torch.equal(gather_rows_reference(arena, far, 20, torch.float32), -values)
    copy_rows(arena, far, back, widths, 80)
    assert torch.equal(gather_rows_reference(arena, back, 20, torch.float32), -values)
    pages = arena.view(torch.bfloat16).view(-1, 8, 16)
    last = torch.tensor([pages.shape[0] - 1], device=device)
    tokens = torch.randn(5, 16, device=device).bfloat16()
    write_tokens(tokens[:1], pages, last, torch.tensor([2], device=device))
    assert torch.equal(gather_tokens(pages, last, 2, 3), tokens[:1])
    scatter_tokens(tokens, pages, last, 3)
    assert torch.equal(pages[-1, 3:], tokens)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_nothing_to_move(device: torch.device, shape: tuple[int, ...]) -> None:
    arena = torch.full((64,), POISON, dtype=torch.uint8, device=device)
    offsets = torch.zeros(shape, dtype=torch.int64, device=device)
    assert gather_rows(arena, offsets, 16, torch.float32).shape == (*shape, 16)
    scatter_rows(arena, offsets, torch.zeros(*shape, 16, device=device))
    assert (arena == POISON).all()

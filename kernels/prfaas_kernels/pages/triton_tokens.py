"""Moving tokens' entries between dense rows and a cache's pages in Triton. What an entry holds is not known here."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import launch
from prfaas_kernels.pages.triton_tile import as_integers, tile


@triton.jit(do_not_specialize=["token_pages_ptr", "token_offsets_ptr", "tokens", "id_stride", "offset_stride"])
def _write_tokens_kernel(
    values_ptr, pages_ptr, token_pages_ptr, token_offsets_ptr, id_stride, offset_stride, tokens, width,
    value_stride, page_stride, token_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    row = token.to(tl.int64)
    page = tl.load(token_pages_ptr + row * id_stride, mask=token < tokens, other=0)
    offset = tl.load(token_offsets_ptr + row * offset_stride, mask=token < tokens, other=0)
    there = (token < tokens)[:, None] & (column < width)[None, :]
    value = tl.load(values_ptr + row[:, None] * value_stride + column[None, :], mask=there)
    place = page * page_stride + offset * token_stride
    tl.store(pages_ptr + place[:, None] + column[None, :], value, mask=there)


@triton.jit(do_not_specialize=["page_ids_ptr", "start", "tokens"])
def _move_tokens_kernel(
    values_ptr, pages_ptr, page_ids_ptr, start, tokens, page_tokens, width, value_stride, page_stride, token_stride,
    TO_PAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    position = start + token
    page = tl.load(page_ids_ptr + position // page_tokens, mask=token < tokens, other=0)
    place = page * page_stride + (position % page_tokens).to(tl.int64) * token_stride
    there = (token < tokens)[:, None] & (column < width)[None, :]
    in_pages = pages_ptr + place[:, None] + column[None, :]
    in_values = values_ptr + token.to(tl.int64)[:, None] * value_stride + column[None, :]
    if TO_PAGES:
        tl.store(in_pages, tl.load(in_values, mask=there), mask=there)
    else:
        tl.store(in_values, tl.load(in_pages, mask=there), mask=there)


def write_tokens(values: Tensor, pages: Tensor, token_pages: Tensor, token_offsets: Tensor) -> None:
    """As `cpu.write_tokens`. One launch if the entries of a token are dense, as they are within pages."""
    rows, cache = _dense_entries(values), _paged_entries(pages)
    (tokens, width), size = rows.shape, values.element_size()
    height, columns = tile(width, size)
    launch(
        _write_tokens_kernel, (triton.cdiv(tokens, height), triton.cdiv(width, columns)), rows, cache,
        token_pages, token_offsets, token_pages.stride(0), token_offsets.stride(0), tokens, width, rows.stride(0),
        cache.stride(0), cache.stride(1), ROWS=height, COLUMNS=columns,
    )  # fmt: skip


def gather_tokens(pages: Tensor, page_ids: Tensor, start: int, stop: int) -> Tensor:
    """As `cpu.gather_tokens`."""
    out = torch.empty(stop - start, *pages.shape[2:], dtype=pages.dtype, device=pages.device)
    _move_tokens(out, pages, page_ids, start, to_pages=False)
    return out


def scatter_tokens(values: Tensor, pages: Tensor, page_ids: Tensor, start: int) -> None:
    """As `cpu.scatter_tokens`."""
    _move_tokens(values, pages, page_ids, start, to_pages=True)


def _move_tokens(values: Tensor, pages: Tensor, page_ids: Tensor, start: int, *, to_pages: bool) -> None:
    rows, cache = _dense_entries(values), _paged_entries(pages)
    (tokens, width), size = rows.shape, values.element_size()
    height, columns = tile(width, size)
    launch(
        _move_tokens_kernel, (triton.cdiv(tokens, height), triton.cdiv(width, columns)), rows, cache,
        page_ids.contiguous(), start, tokens, pages.shape[1], width, rows.stride(0), cache.stride(0), cache.stride(1),
        TO_PAGES=to_pages, ROWS=height, COLUMNS=columns,
    )  # fmt: skip


def _dense_entries(values: Tensor) -> Tensor:
    """[T, *dims] as integers [T, width]; rows may be apart, and what is not dense within a token is copied."""
    width = math.prod(values.shape[1:])
    rows = values.reshape(values.shape[0], width)
    return as_integers(rows if rows.stride(1) == 1 else rows.contiguous(), values.element_size())


def _paged_entries(pages: Tensor) -> Tensor:
    """[N, page_tokens, *dims] as integers [N, page_tokens, width]; always the same memory."""
    cache = pages.view(*pages.shape[:2], math.prod(pages.shape[2:]))
    assert cache.stride(2) == 1, "the entries of a token must be dense"
    return as_integers(cache, pages.element_size())

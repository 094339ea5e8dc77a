"""Copies between pages at the sizes of Kimi-Linear's states and latents, and of keys of grouped-query attention."""

from functools import partial
from math import prod

import torch
from torch import Tensor

from benchmarks.kernels.case import Asked, Case, CpuCase, Run
from prfaas_kernels.pages import (
    copy_rows,
    gather_rows,
    gather_tokens,
    gather_tokens_reference,
    scatter_rows,
    scatter_tokens,
    write_tokens,
)

_ASKED = Asked(0.60)
_LAYERS, _HEADS, _STATE_BYTES, _CONV_BYTES = 20, 32, 128 * 128 * 4, 3 * 4096 * 2
_ROWS_BYTES = (*[_STATE_BYTES] * _HEADS, *[_CONV_BYTES] * 3) * _LAYERS
_SEQUENCES = 8
_TOKENS, _PAGE_TOKENS = 32_768, 64


def _snapshots(device: torch.device) -> Run:
    rows = len(_ROWS_BYTES) * _SEQUENCES
    arena = torch.empty(2 * rows * _STATE_BYTES, dtype=torch.uint8, device=device)
    offsets = (torch.randperm(2 * rows) * _STATE_BYTES).to(device).view(_SEQUENCES, -1, 2)
    widths = torch.tensor(_ROWS_BYTES).to(device)
    return lambda: copy_rows(arena, offsets[..., 0], offsets[..., 1], widths, _STATE_BYTES)


def _states(device: torch.device) -> tuple[Tensor, Tensor]:
    """An arena, and where the states of one layer lie in it for 64 sequences."""
    rows = 64 * _HEADS
    arena = torch.empty(rows * _STATE_BYTES, dtype=torch.uint8, device=device)
    return arena, (torch.randperm(rows) * _STATE_BYTES).to(device).view(64, _HEADS)


def _gather_rows(device: torch.device) -> Run:
    arena, offsets = _states(device)
    return lambda: gather_rows(arena, offsets, _STATE_BYTES // 4, torch.float32)


def _scatter_rows(device: torch.device) -> Run:
    arena, offsets = _states(device)
    values = torch.randn(*offsets.shape, _STATE_BYTES // 4, device=device)
    return lambda: scatter_rows(arena, offsets, values)


def _pages(dims: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    pages = torch.empty(_TOKENS // _PAGE_TOKENS, _PAGE_TOKENS, *dims, dtype=torch.bfloat16, device=device)
    return pages, torch.randn(_TOKENS, *dims, device=device, dtype=torch.bfloat16)


def _write(dims: tuple[int, ...], device: torch.device) -> Run:
    pages, values = _pages(dims, device)
    places = torch.randperm(_TOKENS)
    token_pages, token_offsets = (places // _PAGE_TOKENS).to(device), (places % _PAGE_TOKENS).to(device)
    return lambda: write_tokens(values, pages, token_pages, token_offsets)


def _gather(dims: tuple[int, ...], device: torch.device) -> Run:
    pages, page_ids = _pages(dims, device)[0], torch.randperm(_TOKENS // _PAGE_TOKENS).to(device)
    return lambda: gather_tokens(pages, page_ids, 0, _TOKENS)


def _scatter(dims: tuple[int, ...], device: torch.device) -> Run:
    (pages, values), page_ids = _pages(dims, device), torch.randperm(_TOKENS // _PAGE_TOKENS).to(device)
    return lambda: scatter_tokens(values, pages, page_ids, 0)


def _token_cases(name: str, dims: tuple[int, ...]) -> tuple[Case, ...]:
    moved = 2 * _TOKENS * prod(dims) * 2
    return tuple(
        Case("pages", f"{op}, {name}, 32K tokens", partial(make, dims), moved, asked=_ASKED)
        for op, make in (("write_tokens", _write), ("gather_tokens", _gather), ("scatter_tokens", _scatter))
    )


_LAYER_BYTES = 64 * _HEADS * _STATE_BYTES

CASES = (
    Case(
        "pages",
        f"copy_rows, Kimi-Linear, snapshots of {_SEQUENCES} sequences",
        _snapshots,
        2 * _SEQUENCES * sum(_ROWS_BYTES),
        asked=_ASKED,
    ),
    Case("pages", "gather_rows, Kimi-Linear, a layer of 64", _gather_rows, 2 * _LAYER_BYTES, asked=_ASKED),
    Case("pages", "scatter_rows, Kimi-Linear, a layer of 64", _scatter_rows, 2 * _LAYER_BYTES, asked=_ASKED),
    *_token_cases("latents of 576", (576,)),
    *_token_cases("8 heads x 128", (8, 128)),
)


def _cpu_case() -> CpuCase:
    pages, page_ids = torch.randn(64, 64, 576), torch.randperm(64)
    return CpuCase(
        "pages",
        "gather_tokens, 3,000 latents of 576, fp32",
        lambda: gather_tokens(pages, page_ids, 100, 3100),
        lambda: gather_tokens_reference(pages, page_ids, 100, 3100),
        tolerance=0.0,
    )


CPU_CASES = (_cpu_case(),)

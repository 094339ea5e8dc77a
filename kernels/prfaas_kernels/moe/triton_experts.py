"""Products of tiles of choices with their experts' weights. Knows nothing of how choices were made or sorted."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, dot_type, launch
from prfaas_kernels.moe.triton_sort import Tiles

_SUMMED = 1024  # columns of a token that a program of the sum holds


@dataclass(frozen=True, slots=True)
class Blocks:
    """How both products are cut: rows of a tile, columns and depth of a block, and what a program has."""

    rows: int
    gated: int
    """Columns of the first product's result: each takes a row of gate and one of up."""
    columns: int
    """Of the second product."""
    depth: int
    warps: int
    stages: int


@triton.jit
def _tile_rows(order_ptr, experts_ptr, first_ptr, tile, choices, ROWS: tl.constexpr):
    """A tile's places, which of them are its expert's, their choices, and its expert; there must be such a tile."""
    first = tl.load(first_ptr + tile)
    place = first + tl.arange(0, ROWS)
    expert = tl.load(experts_ptr + first)
    there = tl.load(experts_ptr + place, mask=place < choices, other=-1) == expert
    return place, there, tl.load(order_ptr + place, mask=there, other=0), expert


@triton.jit(do_not_specialize=["choices"])
def _gate_up_kernel(
    x_ptr, gate_up_ptr, out_ptr, order_ptr, experts_ptr, first_ptr, choices, depth, width, x_stride,
    TOP_K: tl.constexpr, DOT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """`out[place] = silu(gate x) * up x` for the token of the choice in each place.

    A block of weights has a row of gate and one of up in turns, so that one product is as wide as both, and a thread
    that has the one sum has the other.
    """
    blocks = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0) // blocks
    if tl.load(first_ptr + tile) < 0:
        return
    place, there, choice, expert = _tile_rows(order_ptr, experts_ptr, first_ptr, tile, choices, ROWS)
    begin = tl.program_id(0) % blocks * COLUMNS
    turn = tl.arange(0, 2 * COLUMNS)
    has_row = begin + turn // 2 < width
    k = tl.arange(0, DEPTH)
    x = x_ptr + (choice // TOP_K).to(tl.int64)[:, None] * x_stride + k[None, :]
    row = (expert.to(tl.int64) * 2 + turn % 2) * width + begin + turn // 2
    gate_up = gate_up_ptr + row[None, :] * depth + k[:, None]
    total = tl.zeros((ROWS, 2 * COLUMNS), tl.float32)
    for start in range(0, depth, DEPTH):
        deep = k < depth - start
        rows = tl.load(x + start, mask=there[:, None] & deep[None, :], other=0.0).to(DOT)
        loaded = tl.load(gate_up + start, mask=deep[:, None] & has_row[None, :], other=0.0).to(DOT)
        total = tl.dot(rows, loaded, total, input_precision="tf32x3")
    gate, up = tl.split(tl.reshape(total, (ROWS, COLUMNS, 2)))
    out = gate * tl.sigmoid(gate) * up
    column = begin + tl.arange(0, COLUMNS)
    to = out_ptr + place.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(to, out.to(out_ptr.dtype.element_ty), mask=there[:, None] & (column < width)[None, :])


@triton.jit(do_not_specialize=["choices"])
def _down_kernel(
    x_ptr, down_ptr, weights_ptr, out_ptr, order_ptr, experts_ptr, first_ptr, choices, depth, width,
    DOT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """`out[choice] = weights[choice] * down x[place]`."""
    blocks = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0) // blocks
    if tl.load(first_ptr + tile) < 0:
        return
    place, there, choice, expert = _tile_rows(order_ptr, experts_ptr, first_ptr, tile, choices, ROWS)
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, DEPTH)
    has_column = column < width
    x = x_ptr + place.to(tl.int64)[:, None] * depth + k[None, :]
    row = expert.to(tl.int64) * width + column
    down = down_ptr + row[None, :] * depth + k[:, None]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, depth, DEPTH):
        deep = k < depth - start
        rows = tl.load(x + start, mask=there[:, None] & deep[None, :], other=0.0).to(DOT)
        loaded = tl.load(down + start, mask=deep[:, None] & has_column[None, :], other=0.0).to(DOT)
        total = tl.dot(rows, loaded, total, input_precision="tf32x3")
    total *= tl.load(weights_ptr + choice, mask=there, other=0.0)[:, None]
    to = out_ptr + choice.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(to, total.to(out_ptr.dtype.element_ty), mask=there[:, None] & has_column[None, :])


@triton.jit
def _sum_kernel(x_ptr, weights_ptr, out_ptr, width, TOP_K: tl.constexpr, WIDTH: tl.constexpr):
    """Adds a token's choices, in their order; those of weight 0 were not computed."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((WIDTH,), tl.float32)
    for i in tl.static_range(TOP_K):
        choice = token * TOP_K + i
        computed = tl.where(tl.load(weights_ptr + choice) != 0, width, 0)  # columns
        total += tl.load(x_ptr + choice * width + column, mask=column < computed, other=0.0).to(tl.float32)
    tl.store(out_ptr + token * width + column, total.to(out_ptr.dtype.element_ty), mask=column < width)


def gate_up_product(x: Tensor, gate_up: Tensor, tiles: Tiles, top_k: int, blocks: Blocks) -> Tensor:
    """`x` [T, D] and `gate_up` [E, 2I, D] to the SwiGLUs' insides, [N, I], a row for each place."""
    choices, (_, double, depth) = len(tiles.order), gate_up.shape
    width = double // 2
    out = torch.empty(choices, width, dtype=x.dtype, device=x.device)
    grid = (len(tiles.first) * triton.cdiv(width, blocks.gated),)
    sizes = (choices, depth, width, x.stride(0))
    told = (tiles.order, tiles.experts, tiles.first, *sizes)
    launch(_gate_up_kernel, grid, x, gate_up, out, *told, TOP_K=top_k, COLUMNS=blocks.gated, **_options(x, blocks))
    return out


def down_product(x: Tensor, down: Tensor, weights: Tensor, tiles: Tiles, blocks: Blocks) -> Tensor:
    """`x` [N, I] by place, `down` [E, D, I] and `weights` [T, k] to [N, D] by choice, weighted."""
    choices, (_, width, depth) = len(tiles.order), down.shape
    out = torch.empty(choices, width, dtype=x.dtype, device=x.device)
    grid = (len(tiles.first) * triton.cdiv(width, blocks.columns),)
    told = (tiles.order, tiles.experts, tiles.first, choices, depth, width)
    launch(_down_kernel, grid, x, down, weights, out, *told, COLUMNS=blocks.columns, **_options(x, blocks))
    return out


def sum_choices(x: Tensor, weights: Tensor) -> Tensor:
    """`x` [N, D] by choice, `weights` [T, k], to [T, D]: always in the same order, whatever ran first."""
    (tokens, top_k), width = weights.shape, x.shape[1]
    out = torch.empty(tokens, width, dtype=x.dtype, device=x.device)
    wide = min(block(width), _SUMMED)
    grid = (tokens, triton.cdiv(width, wide))
    launch(_sum_kernel, grid, x, weights, out, width, TOP_K=top_k, WIDTH=wide)
    return out


def _options(x: Tensor, blocks: Blocks) -> dict[str, Any]:
    return {
        "DOT": dot_type(x.dtype),
        "ROWS": blocks.rows,
        "DEPTH": blocks.depth,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }

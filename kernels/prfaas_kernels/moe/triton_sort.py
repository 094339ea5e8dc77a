"""Choices of experts in the order of their experts, cut into tiles, without asking the GPU how many there are."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import launch

FEW = 1024
"""Choices that one program sorts by comparing all with all; more go through torch's sort."""
_COMPARED = 16  # at a time, with all
_SIZES = (64, 256, FEW)  # of a program: few, since each is compiled when it is first needed


@dataclass(frozen=True, slots=True)
class Tiles:
    """N choices, those of one expert next to each other; a choice is `token * top_k + i`.

    Choices of weight 0 come last, under the number of an expert that is not there, and are in no tile.
    """

    order: Tensor
    """[N] int32 choice in each place."""
    experts: Tensor
    """[N] int32 expert of the choice in each place."""
    first: Tensor
    """[tiles] int32 place where a tile begins, -1 if there is no such tile. It ends with its expert's choices."""


@triton.jit(do_not_specialize=["choices"])
def _sort_kernel(
    ids_ptr, weights_ptr, order_ptr, experts_ptr, first_ptr, choices, experts,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, COMPARED: tl.constexpr,
):  # fmt: skip
    """A choice's place is the number of choices before it; a tile may begin at any place, so `first` is [N]."""
    choice = tl.arange(0, BLOCK)
    there = choice < choices
    taken = tl.load(weights_ptr + choice, mask=there, other=0.0) != 0
    expert = tl.where(taken, tl.load(ids_ptr + choice, mask=there, other=0).to(tl.int32), experts)
    place, rank = tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.int32)
    for start in range(0, choices, COMPARED):
        other = start + tl.arange(0, COMPARED)
        is_other = other < choices
        other_taken = tl.load(weights_ptr + other, mask=is_other, other=0.0) != 0
        other_id = tl.load(ids_ptr + other, mask=is_other, other=0).to(tl.int32)
        other_expert = tl.where(is_other, tl.where(other_taken, other_id, experts), experts + 1)[None, :]
        sooner = (other_expert == expert[:, None]) & (other[None, :] < choice[:, None])
        rank += tl.sum(sooner.to(tl.int32), axis=1)
        place += tl.sum((sooner | (other_expert < expert[:, None])).to(tl.int32), axis=1)
    tl.store(order_ptr + place, choice, mask=there)
    tl.store(experts_ptr + place, expert, mask=there)
    tl.store(first_ptr + place, tl.where((rank % ROWS == 0) & (expert < experts), place, -1), mask=there)


def sort_choices(ids: Tensor, weights: Tensor, experts: int, rows: int) -> Tiles:
    """Sorts `ids` [T, k] among `experts` and cuts each expert's choices into tiles of `rows`; `weights` [T, k]."""
    assert ids.is_contiguous()
    assert weights.is_contiguous()
    if ids.numel() <= FEW:
        return _sort_few(ids, weights, experts, rows)
    return _sort_many(ids, weights, experts, rows)


def _sort_few(ids: Tensor, weights: Tensor, experts: int, rows: int) -> Tiles:
    choices = ids.numel()
    size = next(size for size in _SIZES if choices <= size)
    order, by_place, first = (torch.empty(choices, dtype=torch.int32, device=ids.device) for _ in range(3))
    launch(
        _sort_kernel,
        (1,),
        ids,
        weights,
        order,
        by_place,
        first,
        choices,
        experts,
        ROWS=rows,
        BLOCK=size,
        COMPARED=_COMPARED,
        num_warps=16 if size > 256 else 4,
    )
    return Tiles(order, by_place, first)


def _sort_many(ids: Tensor, weights: Tensor, experts: int, rows: int) -> Tiles:
    """The number of tiles stays on the device: `first` has room for the most that there can be."""
    keys = torch.where(weights == 0, experts, ids).flatten().to(torch.int32)
    by_place, order = torch.sort(keys, stable=True)
    bounds = torch.searchsorted(by_place, torch.arange(experts + 1, dtype=torch.int32, device=ids.device))
    tiles = (bounds.diff() + (rows - 1)) // rows  # [E] of each expert
    ends = tiles.cumsum(0)
    tile = torch.arange(triton.cdiv(len(keys), rows) + experts, device=ids.device)
    expert = torch.searchsorted(ends, tile, right=True).clamp_(max=experts - 1)  # [tiles]
    first = bounds[expert] + (tile - (ends - tiles)[expert]) * rows
    first = torch.where(tile < ends[-1], first, -1)
    return Tiles(order.to(torch.int32), by_place, first.to(torch.int32))

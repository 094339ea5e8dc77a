"""Router and experts in Triton: what is launched, and in blocks of what shape. Knows no kernel from inside."""

from dataclasses import replace

import torch
from torch import Tensor

from prfaas_kernels.launch import capability
from prfaas_kernels.moe.cpu import Experts
from prfaas_kernels.moe.triton_experts import Blocks, down_product, gate_up_product, sum_choices
from prfaas_kernels.moe.triton_router import route
from prfaas_kernels.moe.triton_sort import sort_choices

__all__ = ["apply_experts", "route"]


def apply_experts(x: Tensor, weights: Tensor, ids: Tensor, gate_up: Experts, down: Experts) -> Tensor:
    """As `cpu.apply_experts`, for stacks of weights. A choice of weight 0 costs nothing."""
    assert isinstance(gate_up, Tensor), "packed experts are the CPU's"
    assert isinstance(down, Tensor), "packed experts are the CPU's"
    assert x.stride(1) == 1 or x.shape[1] == 1
    assert gate_up.is_contiguous()
    assert down.is_contiguous()
    weights, ids = weights.contiguous(), ids.contiguous()
    if ids.numel() == 0:
        return x.new_empty(x.shape)
    blocks = _blocks(ids.numel(), gate_up.shape[0], x.dtype, capability(x))
    tiles = sort_choices(ids, weights, gate_up.shape[0], blocks.rows)
    inner = gate_up_product(x, gate_up, tiles, ids.shape[1], blocks)
    return sum_choices(down_product(inner, down, weights, tiles, blocks), weights)


def _blocks(choices: int, experts: int, dtype: torch.dtype, capability: int) -> Blocks:
    """By how many choices an expert has: the fewer, the more it is about reading weights, the less about rows."""
    blocks = _half_precision_blocks(choices / experts, hopper=capability >= 90)
    # Half as deep are as many bytes of shared memory.
    return replace(blocks, depth=blocks.depth // 2) if dtype is torch.float32 else blocks


def _half_precision_blocks(each: float, *, hopper: bool) -> Blocks:
    if each <= 16:
        return Blocks(rows=16, gated=32, columns=64, depth=128, warps=4, stages=4 if hopper else 3)
    if each <= 96:
        return Blocks(rows=64, gated=64, columns=128, depth=64, warps=4, stages=3)
    if hopper:
        return Blocks(rows=128, gated=128, columns=256, depth=64, warps=8, stages=3)
    return Blocks(rows=128, gated=64, columns=128, depth=64, warps=8, stages=3)

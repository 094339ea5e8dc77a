"""Experts for a few tokens by the compiled kernel, which reads each weight that is needed once."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.native import call, takes

_BLOCK = 16
_EXPERTS = Struct("6q3q3q3qq")  # struct Experts of experts.cpp


def fits(x: Tensor, gate_up: Tensor, down: Tensor) -> bool:
    """Whether the kernel can do this: one dtype, dense stacks, whole blocks of 16 in each dimension."""
    same = x.dtype == gate_up.dtype == down.dtype and gate_up.is_contiguous() and down.is_contiguous()
    return same and down.shape[1] % _BLOCK == 0 and down.shape[2] % _BLOCK == 0 and takes(x, gate_up, down)


def experts(x: Tensor, weights: Tensor, ids: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """As `apply_experts`, for stacks of weights that `fits` accepts."""
    x, weights = x.contiguous(), weights.float().contiguous()
    (tokens, top_k), (num_experts, hidden, inner) = ids.shape, down.shape
    order, starts = _by_expert(ids.flatten().tolist(), num_experts)
    scratch = torch.empty(2 * tokens * hidden + ids.numel() * inner)
    wide, sums, middle = torch.split(scratch, [tokens * hidden, tokens * hidden, ids.numel() * inner])
    out = torch.empty_like(x)
    shape = (ids.numel(), top_k, num_experts, hidden, inner, x.dtype is torch.bfloat16)
    tensors = (x, gate_up, down, weights, order, starts, wide, middle, sums, out)
    call("experts", _EXPERTS.pack(*shape, *(tensor.data_ptr() for tensor in tensors)))
    return out


def _by_expert(chosen: list[int], num_experts: int) -> tuple[Tensor, Tensor]:
    """Order of choices that groups them by expert, and where each expert's begin: [choices], [experts + 1]."""
    order = torch.tensor(sorted(range(len(chosen)), key=chosen.__getitem__))
    starts = [0] * (num_experts + 1)
    for expert in chosen:
        starts[expert + 1] += 1
    return order, torch.tensor(starts).cumsum(0)

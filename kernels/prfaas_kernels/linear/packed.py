"""Weights rearranged once, when a model is loaded, into the blocks that oneDNN reads them in."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas_kernels.linear.onednn import HAS_ONEDNN, linear_onednn
from prfaas_kernels.linear.sizes import LARGEST_UNPADDED, padded

_PACK_FOR_ROWS = 64  # a layout that oneDNN reads without another copy whether it then gets one row or a thousand


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A projection's weight that can only be multiplied with."""

    blocks: Tensor
    """An opaque oneDNN tensor as large as the weight."""
    shape: torch.Size
    """[O, I]"""
    dtype: torch.dtype


Weight = Tensor | PackedWeight
"""What `linear` multiplies with."""


def pack_linear(weight: Tensor) -> Weight:
    """Prepares `weight` [O, I] for `linear`; the original can be dropped.

    bf16 on a CPU is packed: 2-3 times faster for a few rows, a tenth for many, the same bits. Others are returned as
    they are.
    """
    if not HAS_ONEDNN or weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        return weight
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACK_FOR_ROWS)  # noqa: SLF001 - torch's only way
    return PackedWeight(blocks, weight.shape, weight.dtype)


def linear_packed(x: Tensor, weight: PackedWeight) -> Tensor:
    """`x` [T, I] times the transpose of `weight` [O, I]: [T, O], perhaps a view of more rows."""
    rows = x.shape[0]
    if 1 <= rows <= LARGEST_UNPADDED:
        return linear_onednn(x, weight.blocks)
    if rows == 0:
        return x.new_empty(0, weight.shape[0])
    return linear_onednn(padded(x), weight.blocks)[:rows]

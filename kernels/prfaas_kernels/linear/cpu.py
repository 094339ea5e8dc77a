"""Dense projections on CPU: oneDNN for packed weights and large fp32 products, torch's default for the rest."""

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.linear.onednn import HAS_ONEDNN, linear_onednn
from prfaas_kernels.linear.packed import PackedWeight, linear_packed
from prfaas_kernels.linear.sizes import padded

_MIN_PRODUCTS = 1 << 25  # oneDNN compiles a kernel for each new shape (0.4 ms): smaller products are done before that
_ROWS = 64  # and keeps what it compiled, half a MB a shape: only whole multiples go there, so that shapes stay few


def linear(x: Tensor, weight: Tensor | PackedWeight) -> Tensor:
    """`x` [T, I] times the transpose of `weight` [O, I], packed or not: [T, O], in the dtype of both.

    In bf16 the result may be a view of more rows than T (see `few_sizes`). torch sends fp32 products to MKL, which
    keeps to AVX2 on AMD processors; oneDNN uses AVX-512 there and is 2-3x faster.
    """
    if isinstance(weight, PackedWeight):
        return linear_packed(x, weight)
    tokens = x.shape[0]
    if x.dtype is torch.bfloat16 and x.is_cpu:
        return functional.linear(padded(x), weight)[:tokens]
    rows = tokens // _ROWS * _ROWS
    if not _pays_for_onednn(rows, x, weight):
        return functional.linear(x, weight)
    many = linear_onednn(x[:rows], weight)
    return many if rows == tokens else torch.cat([many, functional.linear(x[rows:], weight)])


def _pays_for_onednn(rows: int, x: Tensor, weight: Tensor) -> bool:
    large = rows * weight.numel() >= _MIN_PRODUCTS
    # A strided weight would fall to oneDNN's reference code, a thousand times slower.
    return HAS_ONEDNN and large and x.dtype == torch.float32 and x.device.type == "cpu" and weight.is_contiguous()

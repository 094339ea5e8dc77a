"""Dense projections on CPU: oneDNN for large fp32 products, torch's default for the rest."""

import torch
from torch import Tensor
from torch.nn import functional

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")
_MIN_PRODUCTS = 1 << 25  # oneDNN compiles a kernel for each new shape (0.4 ms): smaller products are done before that
_ROWS = 64  # and keeps what it compiled, half a MB a shape: only whole multiples go there, so that shapes stay few


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """`x` [T, I] times the transpose of `weight` [O, I]: [T, O], in the dtype of both.

    torch sends fp32 products to MKL, which keeps to AVX2 on AMD processors; oneDNN uses AVX-512 there and is
    2-3x faster.
    """
    rows = x.shape[0] // _ROWS * _ROWS
    if not _pays_for_onednn(rows, x, weight):
        return functional.linear(x, weight)
    many: Tensor = torch.ops.mkldnn._linear_pointwise(x[:rows], weight, None, "none", [], "")  # noqa: SLF001
    return many if rows == x.shape[0] else torch.cat([many, functional.linear(x[rows:], weight)])


def _pays_for_onednn(rows: int, x: Tensor, weight: Tensor) -> bool:
    large = rows * weight.numel() >= _MIN_PRODUCTS
    # A strided weight would fall to oneDNN's reference code, a thousand times slower.
    return _HAS_ONEDNN and large and x.dtype == torch.float32 and x.device.type == "cpu" and weight.is_contiguous()

"""Matrix products of attention: oneDNN for large ones in fp32, torch's default for the rest."""

import torch
from torch import Tensor

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")
_MIN_PRODUCTS = 1 << 21  # smaller ones are done before oneDNN has begun
_MULTIPLE = 32  # of rows and keys: it compiles and keeps a kernel for every shape


def times_transposed(x: Tensor, y: Tensor) -> Tensor:
    """`x` [G, R, K] times the transposes of `y` [G, N, K]: [G, R, N]. Each of `y`, or its transpose, is contiguous.

    oneDNN uses AVX-512 where MKL, torch's default, keeps to AVX2: 2-3x faster on AMD processors.
    """
    if not _pays_for_onednn(x, y):
        return torch.bmm(x, y.mT)
    if x.shape[0] == 1:
        return _onednn(x[0], y[0])[None]
    out = x.new_empty(*x.shape[:2], y.shape[1])
    for i in range(x.shape[0]):
        out[i] = _onednn(x[i], y[i])
    return out


def _onednn(x: Tensor, y: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")  # noqa: SLF001 - its only way in
    return out


def _pays_for_onednn(x: Tensor, y: Tensor) -> bool:
    if not _HAS_ONEDNN or x.dtype != torch.float32 or x.device.type != "cpu":
        return False
    keys = y.shape[1] if y[0].is_contiguous() else y.shape[2]
    aligned = x.shape[1] % _MULTIPLE == 0 and keys % _MULTIPLE == 0
    return aligned and x[0].numel() * y.shape[1] >= _MIN_PRODUCTS

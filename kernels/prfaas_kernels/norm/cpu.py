"""RMS norms computed in fp32 whatever the input, through torch's fused op."""

import torch
from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalises the last dimension of `x` [..., D] by its root mean square and scales by `weight` [D].

    Returns [..., D] in the dtype of `x`.
    """
    return functional.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


def rms_norm_gated(x: Tensor, gate: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """`rms_norm(x, weight, eps) * sigmoid(gate)`, rounded once, to `dtype`. `x` and `gate` are [..., D]."""
    normed = functional.rms_norm(x.float(), weight.shape, weight.float(), eps)
    return normed.mul_(gate.float().sigmoid()).to(dtype)

"""RMS norms and the SwiGLU's gate, computed in fp32 whatever the input: by a compiled kernel, else by torch's ops."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.native import takes
from prfaas_kernels.norm import compiled

Activation = Literal["sigmoid", "silu"]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalises the last dimension of `x` [..., D] by its root mean square and scales by `weight` [D].

    Returns [..., D] in the dtype of `x`; `weight` may have another.
    """
    if takes(x, weight):
        return compiled.norm(x, weight, eps, x.dtype)
    return functional.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Adds `x` [..., D] to `residual` in place (rounded to its dtype) and returns `rms_norm(residual, weight, eps)`."""
    if takes(x, residual, weight) and residual.is_contiguous():
        return compiled.norm(x, weight, eps, residual.dtype, residual=residual)
    return rms_norm(residual.add_(x), weight, eps)


def rms_norm_gated(
    x: Tensor, gate: Tensor, weight: Tensor, eps: float, dtype: torch.dtype, activation: Activation = "sigmoid"
) -> Tensor:
    """`rms_norm(x, weight, eps) * activation(gate)`, rounded once, to `dtype`. `x` and `gate` are [..., D]."""
    if takes(x, gate, weight) and dtype in (torch.float32, torch.bfloat16):
        return compiled.norm(x, weight, eps, dtype, gate=gate, gate_kind=compiled.GATES[activation])
    normed = functional.rms_norm(x.float(), weight.shape, weight.float(), eps)
    gate = gate.float()
    return normed.mul_(functional.silu(gate) if activation == "silu" else gate.sigmoid()).to(dtype)


def silu_and_mul(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` for `gate_up` [..., 2I] with the gate first. Returns [..., I] in its dtype."""
    if takes(gate_up) and gate_up.dim() == 2:
        return compiled.silu_mul(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)

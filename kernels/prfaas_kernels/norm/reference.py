"""The definitions of the norms, in fp32."""

from torch import Tensor


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`weight * x / sqrt(mean(x^2) + eps)` over the last dimension, in fp32 (Zhang & Sennrich 2019, Eq. 4)."""
    x = x.float()
    return weight.float() * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rms_norm_gated_reference(x: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm(x) * sigmoid(gate)`, in fp32 (Kimi Linear, Eq. 10)."""
    return rms_norm_reference(x, weight, eps) / (1 + (-gate.float()).exp())

"""The definitions of the norms and of the SwiGLU's gate, in fp32."""

from torch import Tensor


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`weight * x / sqrt(mean(x^2) + eps)` over the last dimension, in fp32 (Zhang & Sennrich 2019, Eq. 4)."""
    x = x.float()
    return weight.float() * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rms_norm_gated_reference(
    x: Tensor, gate: Tensor, weight: Tensor, eps: float, activation: str = "sigmoid"
) -> Tensor:
    """`rms_norm(x) * activation(gate)`, in fp32 (Kimi Linear, Eq. 10; Gated Delta Networks use silu)."""
    gate = gate.float()
    opened = 1 / (1 + (-gate).exp())
    return rms_norm_reference(x, weight, eps) * (gate * opened if activation == "silu" else opened)


def silu_and_mul_reference(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of [..., 2I] with the gate first, in fp32 (Shazeer, arXiv 2002.05202, Eq. 6)."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return gate / (1 + (-gate).exp()) * up

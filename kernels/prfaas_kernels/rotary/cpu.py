"""Rotary embedding from a table that is computed once per step; knows nothing of scaled frequencies."""

import torch
from torch import Tensor


def rotary_inverse_frequencies(rotary_dim: int, theta: float) -> Tensor:
    """`theta^(-2j / rotary_dim)` for each of the rotary_dim / 2 pairs, fp32 [rotary_dim / 2].

    Rounded as models were trained with it: the power and the quotient in fp32.
    """
    assert rotary_dim > 0
    assert rotary_dim % 2 == 0
    return 1.0 / theta ** (torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim)


def rotary_cos_sin(positions: Tensor, inv_freq: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines for `positions` [T] (integers), fp32 [T, rotary_dim / 2] each; one table serves all layers."""
    angles = positions[:, None] * inv_freq  # [T, rotary_dim / 2]
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turns the first rotary_dim = 2 * cos.shape[1] entries of each head of `x` [T, H, D].

    Pairs are (j, j + rotary_dim / 2), or (2j, 2j + 1) if `interleaved`. Computed in fp32 and rounded once. `x` may be
    a strided view and is not written to. Returns a new [T, H, D] in the dtype of `x`.
    """
    rotary_dim = 2 * cos.shape[1]
    assert rotary_dim <= x.shape[-1]
    x32 = x.float()
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    first, second = _pairs(x32[..., :rotary_dim], interleaved)
    to_first, to_second = _pairs(out[..., :rotary_dim], interleaved)
    cos, sin = cos[:, None], sin[:, None]  # one for all heads
    torch.mul(first, cos, out=to_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=to_second).addcmul_(first, sin)
    out[..., rotary_dim:] = x32[..., rotary_dim:]
    return out.to(x.dtype)


def _pairs(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Views of the first and second entries of all pairs, [..., rotary_dim / 2] each."""
    if interleaved:
        return x[..., 0::2], x[..., 1::2]
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]

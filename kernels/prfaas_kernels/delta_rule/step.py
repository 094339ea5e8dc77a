"""One token of each of several sequences. Does not know how decays come about."""

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """`x` [..., D] divided by its length, in fp32."""
    x = x.float()
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def decode_step(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor) -> Tensor:
    """`q`, `k` [B, H, K] normalised and q scaled, `v` [B, H, V], `decay` [B, H, K or 1, 1], `beta` [B, H].

    `state` [B, H, K, V] fp32 moves on in place. Returns outputs [B, H, V] fp32.
    """
    state.mul_(decay)
    recalled, read = torch.matmul(torch.stack([k, q], dim=2), state).unbind(2)  # [B, H, V] each
    written = beta[..., None] * (v - recalled)
    state.addcmul_(k[..., None], written[:, :, None])
    return read + (q * k).sum(-1, keepdim=True) * written

"""The definition of rotary embedding as products of complex numbers; knows nothing of tables or dtypes."""

import torch
from torch import Tensor


def rotary_reference(x: Tensor, positions: Tensor, rotary_dim: int, theta: float, interleaved: bool) -> Tensor:
    """Pair j of a head at position p is turned by p / theta^(2j / rotary_dim) (RoFormer, arXiv 2104.09864, Eq. 34).

    `x` [T, H, D], `positions` [T]. Pairs are entries (2j, 2j + 1) if `interleaved`, else (j, j + rotary_dim / 2);
    entries from `rotary_dim` on stay as they are. Returns [T, H, D] in fp64.
    """
    out = x.double().clone()
    rotated = out[..., :rotary_dim]
    if interleaved:
        first, second = rotated[..., 0::2], rotated[..., 1::2]
    else:
        first, second = rotated.chunk(2, dim=-1)
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim
    angles = positions.double()[:, None, None] / theta**exponents  # [T, 1, rotary_dim / 2]
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    first.copy_(turned.real)
    second.copy_(turned.imag)
    return out

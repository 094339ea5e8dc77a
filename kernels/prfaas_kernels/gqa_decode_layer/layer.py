"""What stays the same from call to call of one attention layer; knows no cache."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GqaHeads:
    """H query heads and G key heads of Dk channels, values of Dv, and what happens to heads between projections."""

    heads: int
    groups: int
    key: int
    value: int
    scale: float
    q_norm: Tensor | None
    """[Dk], of each head alone."""
    k_norm: Tensor | None
    eps: float
    interleaved: bool
    """Which channels rotation pairs, see `apply_rotary`."""
    sinks: Tensor | None
    """[H]"""
    gated: bool
    """Whether a row ends with H * Dv gates, opened by a sigmoid."""

    def __post_init__(self) -> None:
        known = (torch.bfloat16, torch.float32)
        assert all(x is None or (x.dtype in known and x.is_contiguous()) for x in (self.q_norm, self.k_norm))

    @property
    def widths(self) -> list[int]:
        """Of queries, keys, values and gates in a projected row."""
        gates = self.heads * self.value if self.gated else 0
        return [self.heads * self.key, self.groups * self.key, self.groups * self.value, gates]

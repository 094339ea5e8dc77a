"""What stays the same from call to call of one delta rule layer; knows no cache."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class DeltaLayer:
    """Weights between a layer's projections: Hk heads of K channels in q and k, H heads of V in v, each Hk's H / Hk."""

    key_heads: int
    key: int
    heads: int
    value: int
    conv: Tensor
    """[W, C] taps, oldest first; C = 2 Hk K + H V: q, k, v."""
    conv_starts: tuple[int, int, int]
    """Where the channels of q, k and v begin among all those whose inputs are cached."""
    a_log: Tensor
    """[H] fp32"""
    dt_bias: Tensor
    """[H] fp32, or [H K] where each channel decays on its own."""
    norm: Tensor
    """[V]"""
    eps: float
    activation: Literal["sigmoid", "silu"]
    """Of the output gate."""

    def __post_init__(self) -> None:
        assert self.a_log.dtype == self.dt_bias.dtype == torch.float32
        assert all(x.is_contiguous() for x in (self.a_log, self.dt_bias, self.norm))

    @property
    def widths(self) -> list[int]:
        """Channels of q, k and v."""
        return [self.key_heads * self.key, self.key_heads * self.key, self.heads * self.value]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The channels of q, k and v among those whose inputs are cached."""
        return tuple((start, start + width) for start, width in zip(self.conv_starts, self.widths, strict=True))

    @property
    def by_channel(self) -> bool:
        """Whether decays are per channel (Kimi Delta Attention) and not per head (gated DeltaNet)."""
        return self.dt_bias.shape != self.a_log.shape

"""Attention over some of the keys, in the form in which parts are joined exactly."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Partial:
    """What one holder of keys knows of a softmax (Infinite-LLM, arXiv 2401.02669: DistAttention's micro-attention).

    Everything is relative to `peak`, which keeps exponentials in range: the largest score, or any reference near it.
    """

    out: Tensor
    """[..., H, Dv] fp32: the sum of e^(score - peak) times the value, not normalised."""
    peak: Tensor
    """[..., H] fp32; minus infinity where there are no keys."""
    total: Tensor
    """[..., H] fp32: the sum of e^(score - peak); 0 where there are no keys."""

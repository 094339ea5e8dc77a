"""Draws tokens from logits.

Every draw depends only on the request's seed, the position and the logits, so a request that moves between instances,
or is computed again, continues with the same tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.core.request import SamplingParams

COLD = 1e-5
"""Below this temperature the best token wins anyway, and dividing by it could overflow."""
_MIX = 0x9E3779B97F4A7C15
_MASK = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Draw:
    """One row of logits: how to draw, and for which position of the request (0 is the first output token)."""

    sampling: SamplingParams
    position: int


def sample(logits: Tensor, draws: list[Draw]) -> list[int | None]:
    """`logits` [S, V] fp32 → S token ids; None where a row is not finite, which nothing sensible can be drawn from."""
    finite = torch.isfinite(logits).all(dim=-1).tolist()
    greedy = logits.argmax(dim=-1).tolist()
    return [
        None if not ok else best if draw.sampling.temperature < COLD else _draw(row, draw)
        for row, draw, ok, best in zip(logits, draws, finite, greedy, strict=True)
    ]


def _draw(row: Tensor, draw: Draw) -> int:
    """Gumbel-max over the smallest set of tokens whose probability reaches top-p."""
    scaled = row / draw.sampling.temperature  # [V]
    if draw.sampling.top_p < 1.0:
        scaled = _keep_nucleus(scaled, draw.sampling.top_p)
    generator = torch.Generator().manual_seed(_position_seed(draw.sampling.seed, draw.position))
    noise = torch.empty_like(scaled).exponential_(generator=generator)  # [V]
    return int((scaled - noise.log()).argmax())


def _keep_nucleus(scaled: Tensor, top_p: float) -> Tensor:
    values, order = scaled.sort(descending=True)
    probs = values.softmax(dim=-1)
    # A token stays while the probability before it has not reached top-p, so the likeliest always stays.
    dropped = probs.cumsum(dim=-1) - probs >= top_p
    return scaled.masked_fill(torch.zeros_like(dropped).scatter(0, order, dropped), float("-inf"))


def _position_seed(seed: int, position: int) -> int:
    """Spreads (seed, position) over 63 bits, so that neighbouring positions have unrelated streams."""
    mixed = (seed ^ (position + 1) * _MIX) & _MASK
    return (mixed ^ (mixed >> 31)) * _MIX & _MASK

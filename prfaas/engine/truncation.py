"""Draws from the head of a distribution: min-p, top-k, top-p. Knows probabilities and uniform numbers, no requests."""

from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES = (256, 4096)
"""Heads of a distribution are short, and finding few likeliest tokens is far cheaper than sorting a vocabulary."""


def draw_at(weights: Tensor, uniforms: Sequence[float]) -> Tensor:
    """`weights` [S, N], not negative, as a distribution; the columns [S] in which the `uniforms` in [0, 1) fall."""
    sums = weights.cumsum(dim=-1)  # [S, N]
    totals = sums[:, -1:]
    points = torch.tensor(uniforms, dtype=torch.float64, device=weights.device).unsqueeze(-1) * totals
    # Rounding must not lift a point to the total, behind which there is nothing.
    points = torch.minimum(points.to(weights.dtype), torch.nextafter(totals, torch.zeros_like(totals)))
    return torch.searchsorted(sums, points, right=True).squeeze(-1)


def draw_truncated(probs: Tensor, limits: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Token ids [S] drawn from `probs` [S, V] fp32.

    `limits` [S, 3] fp64: top-k (V: all), top-p, min-p. Applied as vLLM does: min-p, then top-k, then top-p of what is
    left; equally likely tokens are kept in rising order of their ids.
    """
    tokens = torch.empty(len(probs), dtype=torch.long, device=probs.device)
    rows = torch.arange(len(probs), device=probs.device)
    for width in (*(c for c in CANDIDATES if c < probs.shape[-1]), probs.shape[-1]):
        weights, ids = _likeliest(probs[rows], width)  # [R, W]
        bounded = _bounded(limits[rows], probs.shape[-1])
        kept = weights.double() * _keep(weights.double(), limits[rows], bounded)
        decided = _decided(weights, kept, limits[rows], bounded) | (width == probs.shape[-1])
        drawn = draw_at(kept, [uniforms[i] for i in rows.tolist()])
        tokens[rows[decided]] = ids.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)[decided]
        rows = rows[~decided]
        if not len(rows):
            break
    return tokens


def _likeliest(probs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest of each row, falling, equal ones by id; and their ids."""
    if width < probs.shape[-1]:
        ids = probs.topk(width, dim=-1, sorted=False).indices.sort(dim=-1).values
        weights, order = probs.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
        return weights, ids.gather(-1, order)
    weights, ids = probs.sort(dim=-1, descending=True, stable=True)
    return weights, ids


def _bounded(limits: Tensor, vocab_size: int) -> Tensor:
    """[R, 1] bool: min-p or top-k drop tokens, so what top-p shares in is less than 1."""
    top_k, _, min_p = limits.unsqueeze(-1).unbind(dim=1)  # [R, 1] each
    return (min_p > 0) | (top_k < vocab_size)


def _keep(weights: Tensor, limits: Tensor, bounded: Tensor) -> Tensor:
    """[R, W] bool, true for a first part of each row of falling `weights`."""
    top_k, top_p, min_p = limits.unsqueeze(-1).unbind(dim=1)  # [R, 1] each
    ranks = torch.arange(weights.shape[-1], device=weights.device)
    mass = weights * ((ranks < top_k) & (weights >= min_p * weights[:, :1]))
    sums = mass.cumsum(dim=-1)
    totals = torch.where(bounded, sums[:, -1:], 1.0)
    # A token stays while the probability before it has not reached top-p, so the likeliest always stays.
    return (mass > 0) & (sums - mass < top_p * totals)


def _decided(weights: Tensor, kept: Tensor, limits: Tensor, bounded: Tensor) -> Tensor:
    """[R] bool: the tokens beyond these candidates change nothing."""
    top_k, _, min_p = limits.unsqueeze(-1).unbind(dim=1)
    # What min-p and top-k leave must end here, for top-p to know its total.
    known = ~bounded | (top_k <= weights.shape[-1]) | (weights[:, -1:] < min_p * weights[:, :1])
    last = kept.gt(0).sum(dim=-1, keepdim=True) - 1
    # A token as likely as the last candidate may have equals beyond the candidates, with lower ids.
    return (known & (weights.gather(-1, last) > weights[:, -1:])).squeeze(-1)

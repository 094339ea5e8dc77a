"""The definition of grouped-query attention, with the score matrix written out, in fp32."""

import torch
from torch import Tensor


def gqa_reference(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, sinks: Tensor | None = None, window: int | None = None
) -> Tensor:
    """The outputs of `gqa_reference_with_totals`, [T, H, Dv] in fp32."""
    return gqa_reference_with_totals(q, k, v, scale, sinks=sinks, window=window)[0]


def gqa_reference_with_totals(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, sinks: Tensor | None = None, window: int | None = None
) -> tuple[Tensor, Tensor]:
    """Causal attention of the last T of L tokens (GQA, arXiv 2305.13245; sinks as in arXiv 2309.17453, s3.3).

    `q` [T, H, Dk], `k` [L, G, Dk], `v` [L, G, Dv]: query head h reads key head h // (H / G). With `window` w a query
    sees itself and the w - 1 tokens before it. `sinks` [H] are logits that join the softmax and carry no value.
    Returns [T, H, Dv] and the natural logarithm of each softmax's total, its sink included, [T, H], in fp32.
    """
    tokens, heads, _ = q.shape
    length, groups, _ = k.shape
    keys, values = (x.float().repeat_interleave(heads // groups, dim=1) for x in (k, v))
    scores = torch.einsum("thd,lhd->htl", q.float(), keys) * scale
    ago = torch.arange(length - tokens, length)[:, None] - torch.arange(length)  # [T, L]
    hidden = (ago < 0) | (ago >= (window or length))
    scores = scores.masked_fill(hidden.to(q.device), -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.float()[:, None, None].expand(-1, tokens, 1)], dim=-1)
    return torch.einsum("htl,lhv->thv", scores.softmax(-1)[..., :length], values), scores.logsumexp(-1).T

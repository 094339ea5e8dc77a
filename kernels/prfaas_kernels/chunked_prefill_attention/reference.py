"""The definition of attention of a chunk over all of its sequence, with the score matrix written out, in fp32."""

import torch
from torch import Tensor


def chunked_prefill_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
    window: int | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Causal attention of the last T of L tokens of one sequence (GQA, arXiv 2305.13245; sinks, arXiv 2309.17453).

    `q` [T, H, Dk], `k` [L, G, Dk], `v` [L, G, Dv]: query head h reads key head h // (H / G). With `window` w a query
    sees itself and the w - 1 tokens before it. `sinks` [H] are logits that join the softmax and carry no value. `gate`
    [T, H, Dv] goes through a sigmoid and multiplies the output (Qwen3-Next). Returns the output [T, H, Dv] and the
    natural logarithm of each softmax's total [T, H], its sink included, in fp32.
    """
    tokens, heads, _ = q.shape
    length, groups, _ = k.shape
    keys, values = (x.float().repeat_interleave(heads // groups, dim=1) for x in (k, v))
    logits = torch.einsum("thd,lhd->htl", q.float(), keys) * scale
    ago = torch.arange(length - tokens, length)[:, None] - torch.arange(length)  # [T, L]
    hidden = (ago < 0) | (ago >= (window or length))
    logits = logits.masked_fill(hidden.to(q.device), -torch.inf)
    if sinks is not None:
        logits = torch.cat([logits, sinks.float()[:, None, None].expand(-1, tokens, 1)], dim=-1)
    out = torch.einsum("htl,lhv->thv", logits.softmax(-1)[..., :length], values)
    if gate is not None:
        out = out / (1 + (-gate.float()).exp())
    return out, logits.logsumexp(-1).T

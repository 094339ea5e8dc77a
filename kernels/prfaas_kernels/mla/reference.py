"""The definition of multi-head latent attention, with keys and values written out, in fp32."""

import torch
from torch import Tensor


def mla_reference(q: Tensor, latents: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    """Causal attention of the last T tokens of one sequence (DeepSeek-V2, arXiv 2405.04434, s2.1).

    `q` [T, H, nope + rope], `latents` [L, rank + rope] of all its tokens, `kv_up` [H, nope + v, rank].
    Returns [T, H, v] in fp32.
    """
    tokens, _, width = q.shape
    length, rank = latents.shape[0], latents.shape[1] - rope_dim
    expanded = torch.einsum("lr,hdr->hld", latents[:, :rank].float(), kv_up.float())
    nope = width - rope_dim
    k_nope, v = expanded[..., :nope], expanded[..., nope:]
    k_rope = latents[:, rank:].float().expand(k_nope.shape[0], -1, -1)
    scores = torch.einsum("thd,hld->htl", q.float(), torch.cat([k_nope, k_rope], dim=-1)) / width**0.5
    future = torch.arange(length)[None] > torch.arange(length - tokens, length)[:, None]
    return torch.einsum("htl,hlv->thv", scores.masked_fill(future, -torch.inf).softmax(-1), v)

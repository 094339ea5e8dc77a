"""Multi-head latent attention without rotary embedding, over a paged latent cache."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.models.batch_index import BatchIndex, PrefillSpan
from prfaas_kernels.linear import linear
from prfaas_kernels.mla import mla_decode, mla_prefill
from prfaas_kernels.norm import rms_norm


@dataclass(frozen=True)
class MlaLayer:
    """Weights of one layer with H heads. Its cache is one tensor of latents, [pages, page_tokens, rank + rope]."""

    project_in: Tensor
    """[H * (nope + rope) + rank + rope, hidden]: queries, then the latent and the shared part of the keys."""
    latent_norm: Tensor
    """[rank]"""
    latent_norm_eps: float
    kv_up: Tensor
    """[H, nope + v, rank]"""
    project_out: Tensor
    """[hidden, H * v]"""
    rope_dim: int

    def __call__(self, x: Tensor, index: BatchIndex, cache: tuple[Tensor, ...]) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        (pages,) = cache
        heads, _, rank = self.kv_up.shape
        projected = linear(x, self.project_in)
        latents = projected[:, -(rank + self.rope_dim) :]  # [T, rank + rope]
        latents[:, :rank] = rms_norm(latents[:, :rank], self.latent_norm, self.latent_norm_eps)
        pages[index.token_pages, index.token_offsets] = latents
        q = torch.unflatten(projected[:, : -latents.shape[1]], -1, (heads, -1))  # [T, H, nope + rope]
        return linear(self._attend(q, latents, index, pages), self.project_out)

    def _attend(self, q: Tensor, latents: Tensor, index: BatchIndex, pages: Tensor) -> Tensor:
        decodes = index.num_decodes
        out = q.new_empty(q.shape[0], self.project_out.shape[1])  # [T, H * v]
        if decodes:
            read = (pages, index.decode_pages, index.decode_lengths)
            out[:decodes] = mla_decode(q[:decodes], *read, self.kv_up, self.rope_dim).flatten(1)
        for span in index.prefills:
            seen = _span_latents(span, latents, pages)
            out[span.rows] = mla_prefill(q[span.rows], seen, self.kv_up, self.rope_dim).flatten(1)
        return out


def _span_latents(span: PrefillSpan, latents: Tensor, pages: Tensor) -> Tensor:
    """All latents that a span sees, [L, rank + rope]; read back from pages only if some are not in this batch."""
    if span.context == 0:
        return latents[span.rows]
    return pages[span.pages].flatten(0, 1)[: span.length]

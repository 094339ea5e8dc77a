"""Multi-head latent attention over a paged latent cache."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.core.decoder_spec import Mla
from prfaas.models.batch import LayerTensors
from prfaas.models.batch_index import Angles, BatchIndex
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.mla import mla_decode, mla_prefill
from prfaas_kernels.norm import rms_norm
from prfaas_kernels.pages import write_tokens
from prfaas_kernels.rotary import apply_rotary


@dataclass(frozen=True)
class LowRankQueries:
    """The second half of a query projection that goes through a bottleneck of R channels."""

    norm: Tensor
    """[R]"""
    up: Weight
    """[H * (nope + rope), R]"""


@dataclass(frozen=True)
class MlaLayer:
    """Weights of one rank's H heads. Its cache is one tensor of latents, [pages, page_tokens, rank + rope]."""

    spec: Mla
    """With this rank's number of heads."""
    project_in: Weight
    """[Q + rank + rope, hidden]: queries (or their bottleneck), then the latent and the shared part of the keys."""
    low_rank: LowRankQueries | None
    latent_norm: Tensor
    """[rank]"""
    kv_up: Tensor
    """[H, nope + v, rank]"""
    project_out: Weight
    """[hidden, H * v]"""

    def __call__(self, x: Tensor, index: BatchIndex, cache: LayerTensors) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        (pages,) = cache.pages
        spec = self.spec
        projected = linear(x, self.project_in)
        width = spec.rank + spec.rope_dim
        latents = projected[:, -width:]  # [T, rank + rope]
        latents[:, : spec.rank] = rms_norm(latents[:, : spec.rank], self.latent_norm, spec.norm_eps)
        q = projected[:, :-width]
        if self.low_rank is not None:
            q = linear(rms_norm(q, self.low_rank.norm, spec.norm_eps), self.low_rank.up)
        q = torch.unflatten(q, -1, (spec.num_heads, -1))  # [T, H, nope + rope]
        self._rotate(q, latents, index.angles)
        write_tokens(latents, pages, index.token_pages, index.token_offsets)
        return linear(self._attend(q, index, pages), self.project_out)

    def _rotate(self, q: Tensor, latents: Tensor, angles: Angles) -> None:
        """Turns the last `rope_dim` channels of queries and latents in place."""
        rotary = self.spec.rotary
        if rotary is None:
            return
        for part in (q[..., -self.spec.rope_dim :], latents[:, None, -self.spec.rope_dim :]):
            part.copy_(apply_rotary(part, *angles[rotary], interleaved=rotary.interleaved))

    def _attend(self, q: Tensor, index: BatchIndex, pages: Tensor) -> Tensor:
        """[T, H * v]"""
        decodes, rest = index.num_decodes, (self.kv_up, self.spec.rope_dim)
        if decodes == q.shape[0]:
            return mla_decode(q, pages, index.decode_pages, index.decode_lengths, *rest).flatten(1)
        out = mla_prefill(q, pages, index.span_pages, index.spans, *rest)
        if decodes:
            out[:decodes] = mla_decode(q[:decodes], pages, index.decode_pages, index.decode_lengths, *rest)
        return out.flatten(1)

"""Grouped-query attention: projections, norms and rotation; keys and values in pages, or in a ring of a window."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prfaas.core.decoder_spec import Gqa
from prfaas.models.batch import LayerTensors
from prfaas.models.batch_index import Angles, BatchIndex, PrefillSpan
from prfaas.models.layers.shared_norm import SharedNorm
from prfaas.models.state_tensor import StateTensor
from prfaas_kernels.gqa import (
    GqaHeads,
    gqa_decode_layer,
    gqa_prefill,
    gqa_prefill_pages,
    ring_read,
    ring_write,
    window_decode,
)
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm
from prfaas_kernels.rotary import apply_rotary


@dataclass(frozen=True)
class GqaLayer:
    """Weights of one rank's H query heads and G key heads.

    Caches k [pages, page_tokens, G, Dk] and v; with a window w two states, rings of w-1 rows [G, Dk] and [G, Dv].
    """

    spec: Gqa
    """With this rank's numbers of heads."""
    project_in: Weight
    """[H * Dk + G * (Dk + Dv) (+ H * Dv), hidden]: queries, keys, values, gates."""
    q_norm: Tensor | SharedNorm | None
    k_norm: Tensor | SharedNorm | None
    sinks: Tensor | None
    """[H]"""
    project_out: Weight
    """[hidden, H * Dv]"""
    eps: float

    def __call__(self, x: Tensor, index: BatchIndex, cache: LayerTensors) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        projected, decodes, paged = linear(x, self.project_in), index.num_decodes, self.spec.window is None
        if paged and decodes == projected.shape[0]:
            return linear(self._decode(projected, index, *cache.pages), self.project_out)
        layer = self._between_projections
        q, k, v, gate = torch.split(projected, layer.widths, dim=-1)
        q = self._place(q, self.q_norm, layer.heads, index.angles)  # [T, H, Dk]
        k = self._place(k, self.k_norm, layer.groups, index.angles)  # [T, G, Dk]
        v = torch.unflatten(v, -1, (layer.groups, layer.value))
        if paged:
            out = self._paged(q, k, v, index, *cache.pages).flatten(1)  # [T, H * Dv]
        else:
            out = self._windowed(q, k, v, index, *cache.states).flatten(1)
        if layer.gated:
            out = out * gate.sigmoid()
        if paged and decodes:
            out[:decodes] = self._decode(projected[:decodes], index, *cache.pages)
        return linear(out, self.project_out)

    @cached_property
    def _between_projections(self) -> GqaHeads:
        spec = self.spec
        return GqaHeads(
            heads=spec.num_heads,
            groups=spec.num_kv_heads,
            key=spec.k_dim,
            value=spec.v_dim,
            scale=self._scale,
            q_norm=self.q_norm if isinstance(self.q_norm, Tensor) else None,
            k_norm=self.k_norm if isinstance(self.k_norm, Tensor) else None,
            eps=self.eps,
            interleaved=spec.rotary is not None and spec.rotary.interleaved,
            sinks=self.sinks,
            gated=spec.gated,
        )

    def _decode(self, projected: Tensor, index: BatchIndex, k_pages: Tensor, v_pages: Tensor) -> Tensor:
        """[D, all projected] to [D, H * Dv]."""
        layer, rotary = self._between_projections, self.spec.rotary
        q, k, _, _ = torch.split(projected, layer.widths, dim=-1)
        for part, norm in ((q, self.q_norm), (k, self.k_norm)):
            if isinstance(norm, SharedNorm):
                part.copy_(norm(part))
        angles = None
        if rotary is not None:
            cos, sin = index.angles[rotary]
            angles = (cos[: index.num_decodes], sin[: index.num_decodes])
        where = (index.decode_pages, index.decode_lengths)
        return gqa_decode_layer(layer, projected, angles, k_pages, v_pages, *where)

    def _place(self, x: Tensor, norm: Tensor | SharedNorm | None, heads: int, angles: Angles) -> Tensor:
        """Normalised and rotated heads, [T, heads, Dk]."""
        if isinstance(norm, SharedNorm):
            x = norm(x)
        x = torch.unflatten(x, -1, (heads, self.spec.k_dim))
        if isinstance(norm, Tensor):
            x = rms_norm(x, norm, self.eps)
        rotary = self.spec.rotary
        return x if rotary is None else apply_rotary(x, *angles[rotary], interleaved=rotary.interleaved)

    @property
    def _scale(self) -> float:
        return float(self.spec.k_dim**-0.5)

    def _paged(self, q: Tensor, k: Tensor, v: Tensor, index: BatchIndex, k_pages: Tensor, v_pages: Tensor) -> Tensor:
        """Attention of prompts, [T, H, Dv] without the rows of decodes."""
        k_pages[index.token_pages, index.token_offsets] = k
        v_pages[index.token_pages, index.token_offsets] = v
        out = v.new_empty(q.shape[0], self.spec.num_heads, self.spec.v_dim)
        for span in index.prefills:
            out[span.rows] = self._prefill(q[span.rows], k[span.rows], v[span.rows], span, k_pages, v_pages)
        return out

    def _prefill(self, q: Tensor, k: Tensor, v: Tensor, span: PrefillSpan, k_pages: Tensor, v_pages: Tensor) -> Tensor:
        """[n, H, Dv] of a span's tokens; read back from pages only if some that it sees are not in this batch."""
        if span.context == 0:
            return gqa_prefill(q, k, v, self._scale, sinks=self.sinks)
        return gqa_prefill_pages(q, k_pages, v_pages, span.pages, span.length, self._scale, sinks=self.sinks)

    def _windowed(
        self, q: Tensor, k: Tensor, v: Tensor, index: BatchIndex, k_rings: StateTensor, v_rings: StateTensor
    ) -> Tensor:
        """The rings hold the window's tokens before the query: its own key and value join them here."""
        out = v.new_empty(q.shape[0], self.spec.num_heads, self.spec.v_dim)
        decodes = index.num_decodes
        if decodes:
            out[:decodes] = self._windowed_decode(q[:decodes], k[:decodes], v[:decodes], index, k_rings, v_rings)
        for span in index.prefills:
            out[span.rows] = self._windowed_span(q[span.rows], k[span.rows], v[span.rows], span, k_rings, v_rings)
        return out

    def _windowed_decode(
        self, q: Tensor, k: Tensor, v: Tensor, index: BatchIndex, k_rings: StateTensor, v_rings: StateTensor
    ) -> Tensor:
        k_before, v_before = k_rings.read(index.decode_rows), v_rings.read(index.decode_rows)  # [D, window - 1, G, ·]
        keys, values = torch.cat([k[:, None], k_before], dim=1), torch.cat([v[:, None], v_before], dim=1)
        everyone = torch.arange(q.shape[0], device=q.device)
        places = (index.decode_lengths - 1) % k_before.shape[1]
        k_rings.write_row(index.decode_rows, places, k)
        v_rings.write_row(index.decode_rows, places, v)
        return window_decode(q, keys, values, everyone, index.decode_lengths, self._scale, sinks=self.sinks)

    def _windowed_span(
        self, q: Tensor, k: Tensor, v: Tensor, span: PrefillSpan, k_rings: StateTensor, v_rings: StateTensor
    ) -> Tensor:
        k_ring, v_ring = k_rings.read(span.read), v_rings.read(span.read)
        keys = torch.cat([ring_read(k_ring, span.context), k])
        values = torch.cat([ring_read(v_ring, span.context), v])
        ring_write(k_ring, k, span.context)
        ring_write(v_ring, v, span.context)
        k_rings.write(span.written, k_ring)
        v_rings.write(span.written, v_ring)
        return gqa_prefill(q, keys, values, self._scale, sinks=self.sinks, window=self.spec.window)

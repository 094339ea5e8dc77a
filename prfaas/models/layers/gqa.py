"""Grouped-query attention: projections, norms and rotation; keys and values in pages, or in a ring of a window."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.core.decoder_spec import Gqa
from prfaas.models.batch_index import Angles, BatchIndex, PrefillSpan
from prfaas.models.layers.shared_norm import SharedNorm
from prfaas_kernels.gqa import gqa_decode, gqa_prefill, ring_read, ring_write, window_decode
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm
from prfaas_kernels.rotary import apply_rotary


@dataclass(frozen=True)
class GqaLayer:
    """Weights of one rank's H query heads and G key heads. Its cache is k [pages, page_tokens, G, Dk] and v."""

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

    def __call__(self, x: Tensor, index: BatchIndex, cache: tuple[Tensor, ...]) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        spec = self.spec
        widths = [spec.num_heads * spec.k_dim, spec.num_kv_heads * spec.k_dim, spec.num_kv_heads * spec.v_dim]
        projected = linear(x, self.project_in)
        q, k, v, gate = torch.split(projected, [*widths, projected.shape[1] - sum(widths)], dim=-1)
        q = self._place(q, self.q_norm, spec.num_heads, index.angles)  # [T, H, Dk]
        k = self._place(k, self.k_norm, spec.num_kv_heads, index.angles)  # [T, G, Dk]
        v = torch.unflatten(v, -1, (spec.num_kv_heads, spec.v_dim))
        attend = self._paged if spec.window is None else self._windowed
        out = attend(q, k, v, index, *cache).flatten(1)  # [T, H * Dv]
        if spec.gated:
            out = out * gate.sigmoid()
        return linear(out, self.project_out)

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
        k_pages[index.token_pages, index.token_offsets] = k
        v_pages[index.token_pages, index.token_offsets] = v
        decodes = index.num_decodes
        if decodes == q.shape[0]:
            return self._decode(q, index, k_pages, v_pages)
        out = v.new_empty(q.shape[0], self.spec.num_heads, self.spec.v_dim)
        if decodes:
            out[:decodes] = self._decode(q[:decodes], index, k_pages, v_pages)
        for span in index.prefills:
            keys, values = _span_tokens(span, k, k_pages), _span_tokens(span, v, v_pages)
            out[span.rows] = gqa_prefill(q[span.rows], keys, values, self._scale, sinks=self.sinks)
        return out

    def _decode(self, q: Tensor, index: BatchIndex, k_pages: Tensor, v_pages: Tensor) -> Tensor:
        where = (index.decode_pages, index.decode_lengths)
        return gqa_decode(q, k_pages, v_pages, *where, self._scale, sinks=self.sinks)

    def _windowed(self, q: Tensor, k: Tensor, v: Tensor, index: BatchIndex, k_ring: Tensor, v_ring: Tensor) -> Tensor:
        """The rings hold the window's tokens before the query: its own key and value join them here."""
        out = v.new_empty(q.shape[0], self.spec.num_heads, self.spec.v_dim)
        decodes, slots = index.num_decodes, index.decode_slots
        if decodes:
            keys = torch.cat([k[:decodes, None], k_ring[slots]], dim=1)  # [D, window, G, Dk]
            values = torch.cat([v[:decodes, None], v_ring[slots]], dim=1)
            everyone = torch.arange(decodes, device=q.device)
            attended = window_decode(
                q[:decodes], keys, values, everyone, index.decode_lengths, self._scale, sinks=self.sinks
            )
            out[:decodes] = attended
            places = (index.decode_lengths - 1) % k_ring.shape[1]
            k_ring[slots, places], v_ring[slots, places] = k[:decodes], v[:decodes]
        for span in index.prefills:
            out[span.rows] = self._windowed_span(q[span.rows], k[span.rows], v[span.rows], span, k_ring, v_ring)
        return out

    def _windowed_span(
        self, q: Tensor, k: Tensor, v: Tensor, span: PrefillSpan, k_rings: Tensor, v_rings: Tensor
    ) -> Tensor:
        k_ring, v_ring = k_rings[span.slot], v_rings[span.slot]
        keys = torch.cat([ring_read(k_ring, span.context), k])
        values = torch.cat([ring_read(v_ring, span.context), v])
        ring_write(k_ring, k, span.context)
        ring_write(v_ring, v, span.context)
        return gqa_prefill(q, keys, values, self._scale, sinks=self.sinks, window=self.spec.window)


def _span_tokens(span: PrefillSpan, new: Tensor, pages: Tensor) -> Tensor:
    """All tokens that a span sees, [L, G, D]; read back from pages only if some are not in this batch."""
    if span.context == 0:
        return new[span.rows]
    return pages.index_select(0, span.pages).flatten(0, 1)[: span.length]

"""Grouped-query attention: projections, norms and rotation; keys and values in pages, or in a ring of a window."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prfaas.core.decoder_spec import Gqa
from prfaas.models.batch import LayerTensors
from prfaas.models.batch_index import Angles, BatchIndex, Round
from prfaas.models.layers.rounds import in_rounds
from prfaas.models.layers.shared_norm import SharedNorm
from prfaas.models.state_tensor import StateTensor
from prfaas_kernels.chunked_prefill_attention import chunked_prefill_attention
from prfaas_kernels.gqa_decode_layer import GqaHeads, gqa_decode_layer
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm
from prfaas_kernels.pages import write_tokens
from prfaas_kernels.rotary import apply_rotary
from prfaas_kernels.window_attention import window_decode, window_prefill


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
        opened = torch.unflatten(gate, -1, (layer.heads, layer.value)) if layer.gated else None
        if not paged:
            return linear(self._windowed(q, k, v, opened, index, *cache.states).flatten(1), self.project_out)
        out = self._paged(q, k, v, opened, index, *cache.pages).flatten(1)  # [T, H * Dv]
        if decodes:
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
        return gqa_decode_layer(projected, layer, angles, k_pages, v_pages, *where)

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

    def _paged(
        self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor | None, index: BatchIndex, k_pages: Tensor, v_pages: Tensor
    ) -> Tensor:
        """Attention of prompts, [T, H, Dv]; rows of decodes are not written."""
        for new, pages in ((k, k_pages), (v, v_pages)):
            write_tokens(new, pages, index.token_pages, index.token_offsets)
        where = (k_pages, v_pages, index.span_pages, index.spans)
        out, _ = chunked_prefill_attention(q, *where, self._scale, sinks=self.sinks, gate=gate)
        return out

    def _windowed(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        gate: Tensor | None,
        index: BatchIndex,
        k_rings: StateTensor,
        v_rings: StateTensor,
    ) -> Tensor:
        """The rings hold the window's tokens before the query: its own key and value join them. [T, H, Dv]"""
        decodes, rows = index.num_decodes, index.decode_rows

        def decode(new: slice) -> Tensor:
            rings = (k_rings.rows(rows, rows), v_rings.rows(rows, rows))
            return window_decode(q[new], k[new], v[new], *rings, index.decode_lengths, self._scale, sinks=self.sinks)

        if decodes == q.shape[0]:
            out = decode(slice(None))
        else:
            out = in_rounds(index, lambda one: self._window_prefill(q, k, v, one, k_rings, v_rings))
            if decodes:
                out[:decodes] = decode(slice(0, decodes))
        return out if gate is None else out * gate.sigmoid()

    def _window_prefill(
        self, q: Tensor, k: Tensor, v: Tensor, one: Round, k_rings: StateTensor, v_rings: StateTensor
    ) -> Tensor:
        assert self.spec.window is not None
        rings = (k_rings.rows(one.read, one.written), v_rings.rows(one.read, one.written))
        return window_prefill(q, k, v, *rings, one.spans, self._scale, self.spec.window, sinks=self.sinks)

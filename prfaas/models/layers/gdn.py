"""Gated DeltaNet: one short convolution over q, k and v, the delta rule with one decay per head, a gated norm."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prfaas.core.decoder_spec import Gdn
from prfaas.models.batch import LayerTensors
from prfaas.models.batch_index import BatchIndex, Round
from prfaas.models.layers.rounds import in_rounds
from prfaas_kernels.causal_conv1d import causal_conv1d
from prfaas_kernels.delta_decode import DeltaLayer, delta_decode
from prfaas_kernels.gated_delta_rule import gated_delta_rule, gdn_log_decay
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm_gated


@dataclass(frozen=True)
class GdnLayer:
    """Weights of one rank's Hk key and Hv value heads. Caches two states: Hv rows [K, V] fp32, and W-1 rows [C]."""

    spec: Gdn
    """With this rank's numbers of heads."""
    project_in: Weight
    """[2 Hk K + 2 Hv V + 2 Hv, hidden]: q, k, v, the output gate, the write strength, the decay."""
    conv: Tensor
    """[W, 2 Hk K + Hv V] taps, oldest first."""
    conv_starts: tuple[int, int, int]
    """Where this rank's channels of q, k and v begin in a whole row of cached inputs."""
    a_log: Tensor
    """[Hv] fp32"""
    dt_bias: Tensor
    """[Hv] fp32"""
    out_norm: Tensor
    """[V]"""
    project_out: Weight
    """[hidden, Hv V]"""
    eps: float

    def __call__(self, x: Tensor, index: BatchIndex, cache: LayerTensors) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        projected, decodes = linear(x, self.project_in), index.num_decodes
        if decodes == projected.shape[0]:
            return linear(self._decode(projected, index.decode_rows, cache), self.project_out)
        out = self._prefill(projected, index, cache)
        if decodes:
            out[:decodes] = self._decode(projected[:decodes], index.decode_rows, cache)
        return linear(out, self.project_out)

    @cached_property
    def _sizes(self) -> list[int]:
        heads = self.spec.num_v_heads
        return [self.conv.shape[1], heads * self.spec.v_dim, heads, heads]

    @cached_property
    def _between_projections(self) -> DeltaLayer:
        spec = self.spec
        return DeltaLayer(
            key_heads=spec.num_k_heads,
            key=spec.k_dim,
            heads=spec.num_v_heads,
            value=spec.v_dim,
            conv=self.conv,
            conv_starts=self.conv_starts,
            a_log=self.a_log,
            dt_bias=self.dt_bias,
            norm=self.out_norm,
            eps=self.eps,
            activation="silu",
        )

    def _decode(self, projected: Tensor, rows: Tensor, cache: LayerTensors) -> Tensor:
        """[D, all projected] to [D, Hv V]."""
        states, convs = cache.states
        qkv, gate, beta, decay = torch.split(projected, self._sizes, dim=-1)
        where = (states.arena, states.at(rows), convs.at(rows))
        return delta_decode(qkv, gate, decay, beta, self._between_projections, *where)

    def _prefill(self, projected: Tensor, index: BatchIndex, cache: LayerTensors) -> Tensor:
        """[T, all projected] to [T, Hv V]; rows of decodes are not written."""
        qkv, gate, beta, decay = torch.split(projected, self._sizes, dim=-1)
        log_decay = gdn_log_decay(decay, self.a_log, self.dt_bias)  # [T, Hv]
        strength = beta.float().sigmoid()
        out = in_rounds(index, lambda one: self._delta(qkv, log_decay, strength, one, cache))  # [T, Hv, V]
        gate = torch.unflatten(gate, -1, out.shape[1:])
        return rms_norm_gated(out, gate, self.out_norm, self.eps, qkv.dtype, activation="silu").flatten(1)

    def _delta(self, qkv: Tensor, log_decay: Tensor, beta: Tensor, one: Round, cache: LayerTensors) -> Tensor:
        states, convs = (state.rows(one.read, one.written) for state in cache.states)
        mixed = causal_conv1d(qkv, self.conv, convs, one.spans)
        return gated_delta_rule(*self._heads(mixed), log_decay, beta, states, one.spans)

    def _heads(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[T, 2 Hk K + Hv V] to q, k [T, Hk, K] and v [T, Hv, V]."""
        spec = self.spec
        k_width = spec.num_k_heads * spec.k_dim
        q, k, v = torch.split(mixed, [k_width, k_width, mixed.shape[1] - 2 * k_width], dim=-1)
        by_head = (spec.num_k_heads, spec.k_dim)
        return (
            torch.unflatten(q, -1, by_head),
            torch.unflatten(k, -1, by_head),
            torch.unflatten(v, -1, (spec.num_v_heads, spec.v_dim)),
        )

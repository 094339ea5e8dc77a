"""Kimi Delta Attention: short convolutions, the delta rule with per-channel decay, a gated norm."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prfaas.models.batch import LayerTensors
from prfaas.models.batch_index import BatchIndex, Round
from prfaas.models.layers.rounds import in_rounds
from prfaas_kernels.causal_conv1d import causal_conv1d
from prfaas_kernels.delta_decode import DeltaLayer, delta_decode
from prfaas_kernels.kimi_delta_attention import kda_log_decay, kimi_delta_attention
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm_gated


@dataclass(frozen=True)
class KdaLayer:
    """Weights of one rank's H heads of size K. Caches two states: H rows [K, K] fp32, and W-1 rows of channels."""

    project_in: Weight
    """[3HK + 2K + H, hidden]: q, k, v, the inner decay and output gates, and the write strength."""
    conv: Tensor
    """[W, 3HK] taps, oldest first."""
    conv_starts: tuple[int, int, int]
    """Where this rank's channels of q, k and v begin in a whole row of cached inputs."""
    decay_up: Weight
    """[HK, K]"""
    gate_up: Weight
    """[HK, K]"""
    a_log: Tensor
    """[H] fp32"""
    dt_bias: Tensor
    """[HK] fp32"""
    out_norm: Tensor
    """[K]"""
    project_out: Weight
    """[hidden, HK]"""
    eps: float

    def __call__(self, x: Tensor, index: BatchIndex, cache: LayerTensors) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        qkv, decay, gate, beta = torch.split(linear(x, self.project_in), self._sizes, dim=-1)
        decay, gate = linear(decay, self.decay_up), linear(gate, self.gate_up)  # [T, HK] each
        decodes = index.num_decodes
        if decodes == x.shape[0]:
            return linear(self._decode(qkv, gate, decay, beta, index.decode_rows, cache), self.project_out)
        out = self._prefill(qkv, gate, decay, beta, index, cache)
        if decodes:
            new = slice(0, decodes)
            out[new] = self._decode(qkv[new], gate[new], decay[new], beta[new], index.decode_rows, cache)
        return linear(out, self.project_out)

    @cached_property
    def _sizes(self) -> list[int]:
        heads, head_dim = self.a_log.shape[0], self.out_norm.shape[0]
        return [self.conv.shape[1], head_dim, head_dim, heads]

    @cached_property
    def _between_projections(self) -> DeltaLayer:
        heads, head_dim = self.a_log.shape[0], self.out_norm.shape[0]
        return DeltaLayer(
            key_heads=heads,
            key=head_dim,
            heads=heads,
            value=head_dim,
            conv=self.conv,
            conv_starts=self.conv_starts,
            a_log=self.a_log,
            dt_bias=self.dt_bias,
            norm=self.out_norm,
            eps=self.eps,
            activation="sigmoid",
        )

    def _decode(
        self, qkv: Tensor, gate: Tensor, decay: Tensor, beta: Tensor, rows: Tensor, cache: LayerTensors
    ) -> Tensor:
        """One token's row of each of D sequences to [D, HK]."""
        states, convs = cache.states
        where = (states.arena, states.at(rows), convs.at(rows))
        return delta_decode(qkv, gate, decay, beta, self._between_projections, *where)

    def _prefill(
        self, qkv: Tensor, gate: Tensor, decay: Tensor, beta: Tensor, index: BatchIndex, cache: LayerTensors
    ) -> Tensor:
        """[T, HK]; rows of decodes are not written."""
        log_decay = kda_log_decay(decay, self.a_log, self.dt_bias)  # [T, H, K]
        strength = beta.float().sigmoid()
        out = in_rounds(index, lambda one: self._delta(qkv, log_decay, strength, one, cache))  # [T, H, K]
        gate = torch.unflatten(gate, -1, out.shape[1:])
        return rms_norm_gated(out, gate, self.out_norm, self.eps, qkv.dtype).flatten(1)

    def _delta(self, qkv: Tensor, log_decay: Tensor, beta: Tensor, one: Round, cache: LayerTensors) -> Tensor:
        states, convs = (state.rows(one.read, one.written) for state in cache.states)
        mixed = causal_conv1d(qkv, self.conv, convs, one.spans)
        q, k, v = torch.unflatten(mixed, -1, (3, *log_decay.shape[1:])).unbind(1)  # [T, H, K] each
        return kimi_delta_attention(q, k, v, log_decay, beta, states, one.spans)

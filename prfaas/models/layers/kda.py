"""Kimi Delta Attention: short convolutions, the delta rule with per-channel decay, a gated norm."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.models.batch_index import BatchIndex, PrefillSpan
from prfaas.models.layers.conv_cache import ConvCache
from prfaas_kernels.causal_conv1d import conv_prefill
from prfaas_kernels.kimi_delta_attention import kda_decode_slots, kda_log_decay, kda_prefill
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm_gated


@dataclass(frozen=True)
class KdaLayer:
    """Weights of one rank's H heads of size K. Its cache: state [slots, H, K, K] fp32, conv [slots, W-1, channels]."""

    project_in: Weight
    """[3HK + 2K + H, hidden]: q, k, v, the inner decay and output gates, and the write strength."""
    conv: Tensor
    """[W, 3HK] taps, oldest first."""
    conv_cache: ConvCache
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

    def __call__(self, x: Tensor, index: BatchIndex, cache: tuple[Tensor, ...]) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        heads, head_dim = self.a_log.shape[0], self.out_norm.shape[0]
        sizes = [self.conv.shape[1], head_dim, head_dim, heads]
        qkv, decay, gate, beta = torch.split(linear(x, self.project_in), sizes, dim=-1)
        log_decay = kda_log_decay(linear(decay, self.decay_up), self.a_log, self.dt_bias)  # [T, H, K]
        out = self._delta(qkv, log_decay, beta.float().sigmoid(), index, cache)
        gate = torch.unflatten(linear(gate, self.gate_up), -1, (heads, head_dim))
        return linear(rms_norm_gated(out, gate, self.out_norm, self.eps, x.dtype).flatten(1), self.project_out)

    def _delta(
        self, qkv: Tensor, log_decay: Tensor, beta: Tensor, index: BatchIndex, cache: tuple[Tensor, ...]
    ) -> Tensor:
        decodes = index.num_decodes
        if decodes == qkv.shape[0]:
            return self._decode(qkv, log_decay, beta, index.decode_slots, cache)
        out = torch.empty_like(log_decay)  # [T, H, K] fp32
        if decodes:
            out[:decodes] = self._decode(qkv[:decodes], log_decay[:decodes], beta[:decodes], index.decode_slots, cache)
        for span in index.prefills:
            out[span.rows] = self._prefill(qkv[span.rows], log_decay[span.rows], beta[span.rows], span, cache)
        return out

    def _decode(self, qkv: Tensor, log_decay: Tensor, beta: Tensor, slots: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
        states, convs = cache
        mixed = self.conv_cache.decode(qkv, self.conv, convs, slots)
        q, k, v = torch.unflatten(mixed, -1, (3, *log_decay.shape[1:])).unbind(1)  # [D, H, K] each
        return kda_decode_slots(q, k, v, log_decay, beta, states, slots)

    def _prefill(
        self, qkv: Tensor, log_decay: Tensor, beta: Tensor, span: PrefillSpan, cache: tuple[Tensor, ...]
    ) -> Tensor:
        states, convs = cache
        state, conv = states[span.slot], self.conv_cache.read(convs, span.slot)
        if span.context == 0:
            state.zero_()
            conv = torch.zeros_like(conv)
        mixed, new_conv = conv_prefill(qkv, self.conv, conv)
        q, k, v = torch.unflatten(mixed, -1, (3, *log_decay.shape[1:])).unbind(1)  # [T, H, K] each
        out, new_state = kda_prefill(q, k, v, log_decay, beta, state)
        self.conv_cache.write(convs, span.slot, new_conv)
        state.copy_(new_state)
        return out

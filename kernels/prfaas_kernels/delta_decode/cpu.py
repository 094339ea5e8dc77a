"""A delta rule layer's decode between its projections: one compiled kernel, else the ops one after another."""

import torch
from torch import Tensor

from prfaas_kernels.causal_conv1d import conv_decode, conv_decode_slots
from prfaas_kernels.delta_decode import compiled
from prfaas_kernels.delta_decode.layer import DeltaLayer
from prfaas_kernels.gated_delta_rule import gdn_decode_slots, gdn_log_decay
from prfaas_kernels.kimi_delta_attention import kda_decode_slots, kda_log_decay
from prfaas_kernels.norm import rms_norm_gated


def delta_decode(
    layer: DeltaLayer,
    qkv: Tensor,
    gate: Tensor,
    decay: Tensor,
    beta: Tensor,
    states: Tensor,
    convs: Tensor,
    slots: Tensor,
) -> Tensor:
    """One token of each of B sequences, from what is projected in to what is projected out, [B, H V] in its dtype.

    `qkv` [B, C], `gate` [B, H V], `decay` [B, H] or [B, H K] and `beta` [B, H] are as projected: not yet convolved,
    opened, or made a decay. `states` [slots, H, K, V] fp32 and `convs` [slots, W-1, all channels] move on in place at
    `slots` [B] int64, no two equal. Formulas are those of `causal_conv1d`, `gated_delta_rule` or
    `kimi_delta_attention`, and `norm`; the compiled kernel rounds only what is written.
    """
    if compiled.fits(layer, qkv, gate, decay, beta, states, convs, slots):
        return compiled.delta_decode(layer, qkv, gate, decay, beta, states, convs, slots)
    q, k, v = torch.split(_convolve(layer, qkv, convs, slots), layer.widths, dim=-1)
    q, k = (torch.unflatten(x, -1, (layer.key_heads, layer.key)) for x in (q, k))
    v = torch.unflatten(v, -1, (layer.heads, layer.value))
    strength = beta.float().sigmoid()
    if layer.by_channel:
        log_decay = kda_log_decay(decay, layer.a_log, layer.dt_bias)
        out = kda_decode_slots(q, k, v, log_decay, strength, states, slots)
    else:
        log_decay = gdn_log_decay(decay, layer.a_log, layer.dt_bias)
        out = gdn_decode_slots(q, k, v, log_decay, strength, states, slots)
    gate = torch.unflatten(gate, -1, (layer.heads, layer.value))
    return rms_norm_gated(out, gate, layer.norm, layer.eps, qkv.dtype, activation=layer.activation).flatten(1)


def _convolve(layer: DeltaLayer, qkv: Tensor, convs: Tensor, slots: Tensor) -> Tensor:
    """[B, C] convolved; its inputs join those cached."""
    if convs.shape[-1] == qkv.shape[-1]:
        return conv_decode_slots(qkv, layer.conv, convs, slots)
    found = convs[slots]  # [B, W-1, all channels]
    out, moved = conv_decode(qkv, layer.conv, torch.cat([found[..., a:b] for a, b in layer.ranges], dim=-1))
    for (start, stop), part in zip(layer.ranges, torch.split(moved, layer.widths, dim=-1), strict=True):
        convs[..., start:stop][slots] = part
    return out

"""A delta rule layer's decode between its projections: one compiled kernel, else the ops one after another."""

import torch
from torch import Tensor

from prfaas_kernels.causal_conv1d import conv_decode
from prfaas_kernels.delta_decode import compiled
from prfaas_kernels.delta_decode.layer import DeltaLayer
from prfaas_kernels.gated_delta_rule import gdn_decode, gdn_log_decay
from prfaas_kernels.kimi_delta_attention import kda_decode, kda_log_decay
from prfaas_kernels.norm import rms_norm_gated
from prfaas_kernels.pages import gather_rows, scatter_rows


def delta_decode(
    qkv: Tensor,
    gate: Tensor,
    decay: Tensor,
    beta: Tensor,
    layer: DeltaLayer,
    arena: Tensor,
    state_rows: Tensor,
    conv_rows: Tensor,
) -> Tensor:
    """One token of each of B sequences, from what is projected in to what is projected out, [B, H V] in its dtype.

    `qkv` [B, C], `gate` [B, H V], `decay` [B, H] or [B, H K] and `beta` [B, H] are as projected: not yet convolved,
    opened, or made a decay. What is kept lies in `arena` [bytes] uint8, in rows that move on in place; tables have
    their offsets in bytes, int64, no two equal: `state_rows` [B, H] of the heads' states, [K, V] fp32 each, and
    `conv_rows` [B, W-1] of the cached inputs, oldest first, [all channels] each in the dtype of `qkv`. Formulas are
    those of `causal_conv1d`, `gated_delta_rule` or `kimi_delta_attention`, and `norm`; the compiled kernel rounds
    only what is written.
    """
    if compiled.fits(qkv, gate, decay, beta, layer, arena, state_rows, conv_rows):
        return compiled.delta_decode(qkv, gate, decay, beta, layer, arena, state_rows, conv_rows)
    q, k, v = torch.split(_convolve(layer, qkv, arena, conv_rows), layer.widths, dim=-1)
    q, k = (torch.unflatten(x, -1, (layer.key_heads, layer.key)) for x in (q, k))
    v = torch.unflatten(v, -1, (layer.heads, layer.value))
    strength = beta.float().sigmoid()
    state = gather_rows(arena, state_rows, layer.key * layer.value, torch.float32)
    state = torch.unflatten(state, -1, (layer.key, layer.value))  # [B, H, K, V]
    if layer.by_channel:
        log_decay = kda_log_decay(decay, layer.a_log, layer.dt_bias)
        out, state = kda_decode(q, k, v, log_decay, strength, state)
    else:
        log_decay = gdn_log_decay(decay, layer.a_log, layer.dt_bias)
        out, state = gdn_decode(q, k, v, log_decay, strength, state)
    scatter_rows(arena, state_rows, state.flatten(2))
    gate = torch.unflatten(gate, -1, (layer.heads, layer.value))
    return rms_norm_gated(out, gate, layer.norm, layer.eps, qkv.dtype, activation=layer.activation).flatten(1)


def _convolve(layer: DeltaLayer, qkv: Tensor, arena: Tensor, conv_rows: Tensor) -> Tensor:
    """[B, C] convolved; its inputs join those cached."""
    parts = [gather_rows(arena, conv_rows, stop - start, qkv.dtype, start) for start, stop in layer.ranges]
    out, moved = conv_decode(qkv, layer.conv, torch.cat(parts, dim=-1))
    for (start, _), part in zip(layer.ranges, torch.split(moved, layer.widths, dim=-1), strict=True):
        scatter_rows(arena, conv_rows, part, start)
    return out

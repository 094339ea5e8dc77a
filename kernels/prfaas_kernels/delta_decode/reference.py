"""The definition of a delta rule layer's decode, one sequence after another, by the definitions of its parts."""

import torch
from torch import Tensor

from prfaas_kernels.causal_conv1d import conv_reference
from prfaas_kernels.delta_decode.layer import DeltaLayer
from prfaas_kernels.gated_delta_rule import gdn_reference
from prfaas_kernels.kimi_delta_attention import kda_reference
from prfaas_kernels.norm import rms_norm_gated_reference


def delta_decode_reference(
    qkv: Tensor, gate: Tensor, decay: Tensor, beta: Tensor, layer: DeltaLayer, states: Tensor, inputs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One token of each of B sequences with `states` [B, H, K, V] and cached `inputs` [B, W-1, C] of the convolution.

    The others are as in `cpu.delta_decode`. Returns outputs [B, H V], the new states and the new inputs, all fp32.
    """
    steps = [_step(layer, *rows) for rows in zip(qkv, gate, decay, beta, states, inputs, strict=True)]
    out, moved, cached = (torch.stack(parts) for parts in zip(*steps, strict=True))
    return out, moved, cached


def _step(
    layer: DeltaLayer, qkv: Tensor, gate: Tensor, decay: Tensor, beta: Tensor, state: Tensor, inputs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    mixed, cached = conv_reference(qkv[None], layer.conv, inputs)
    q, k, v = torch.split(mixed, layer.widths, dim=1)
    q, k = (torch.unflatten(x, 1, (layer.key_heads, layer.key)) for x in (q, k))
    v = torch.unflatten(v, 1, (layer.heads, layer.value))
    rate = (decay.float() + layer.dt_bias).double().exp().log1p().float()  # softplus
    rate = torch.unflatten(rate, 0, (layer.heads, -1)) * layer.a_log.exp()[:, None]  # [H, K or 1]
    opened = 1 / (1 + (-beta.float()).exp())
    if layer.by_channel:
        out, state = kda_reference(q, k, v, -rate[None], opened[None], state)
    else:
        out, state = gdn_reference(q, k, v, -rate[None, :, 0], opened[None], state)
    gate = torch.unflatten(gate, 0, (layer.heads, layer.value))
    return rms_norm_gated_reference(out[0], gate, layer.norm, layer.eps, layer.activation).flatten(), state, cached

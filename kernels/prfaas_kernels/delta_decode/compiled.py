"""The decode of a delta rule layer by its compiled kernel."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.delta_decode.layer import DeltaLayer
from prfaas_kernels.native import active, call
from prfaas_kernels.norm.compiled import GATES

_LARGEST_HEAD = 256
_DTYPES = (torch.bfloat16, torch.float32)
_DELTA_DECODE = Struct("31qd")  # struct DeltaDecode of delta_decode.cpp


def fits(
    qkv: Tensor,
    gate: Tensor,
    decay: Tensor,
    beta: Tensor,
    layer: DeltaLayer,
    arena: Tensor,
    state_rows: Tensor,
    conv_rows: Tensor,
) -> bool:
    """Whether the kernel can do this: one dtype, heads of at most 256, dense rows."""
    dtype = qkv.dtype
    if not (active() and dtype in _DTYPES and arena.is_cpu and qkv.shape[0]):
        return False
    same = dtype is gate.dtype is decay.dtype is beta.dtype is layer.conv.dtype
    small = layer.key <= _LARGEST_HEAD and layer.value <= _LARGEST_HEAD
    dense = qkv.stride(1) == gate.stride(1) == 1 and layer.conv.is_contiguous()
    by_column = all(x.stride(1) == 1 or x.shape[1] <= 1 for x in (decay, beta, state_rows, conv_rows))
    return same and small and dense and by_column


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
    """As the op of this name, for arguments that `fits` accepts."""
    sequences, heads, dtype = qkv.shape[0], layer.heads, qkv.dtype
    out = torch.empty(sequences, heads * layer.value, dtype=dtype)
    arguments = _DELTA_DECODE.pack(
        sequences,
        layer.key_heads,
        layer.key,
        heads,
        layer.value,
        layer.key if layer.by_channel else 1,
        layer.conv.shape[0],
        GATES[layer.activation],
        dtype is torch.bfloat16,
        qkv.stride(0),
        decay.stride(0),
        gate.stride(0),
        beta.stride(0),
        state_rows.stride(0),
        conv_rows.stride(0),
        *layer.conv_starts,
        qkv.data_ptr(),
        decay.data_ptr(),
        gate.data_ptr(),
        beta.data_ptr(),
        layer.conv.data_ptr(),
        arena.data_ptr(),
        layer.a_log.data_ptr(),
        layer.dt_bias.data_ptr(),
        layer.norm.data_ptr(),
        layer.norm.dtype is torch.bfloat16,
        state_rows.data_ptr(),
        conv_rows.data_ptr(),
        out.data_ptr(),
        layer.eps,
    )
    call("delta_decode", arguments)
    return out

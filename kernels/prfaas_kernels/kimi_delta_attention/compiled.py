"""The per-channel decay by its compiled kernel."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.native import call, numbers, rows

_LOG_DECAY = Struct("4q2q3q")  # struct LogDecay of elementwise.cpp


def log_decay(x: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """`-exp(a_log) * softplus(x + dt_bias)` for `x` [T, H*K], `a_log` [H], `dt_bias` [H*K]: [T, H, K] fp32."""
    x, rate, bias = rows(x), a_log.float().exp(), dt_bias.float().contiguous()
    heads, channels = rate.shape[0], bias.shape[0] // rate.shape[0]
    out = torch.empty(x.shape[0], heads, channels)
    shape = (x.shape[0], heads, channels, x.stride(0))
    call("log_decay", _LOG_DECAY.pack(*shape, *numbers(x), rate.data_ptr(), bias.data_ptr(), out.data_ptr()))
    return out

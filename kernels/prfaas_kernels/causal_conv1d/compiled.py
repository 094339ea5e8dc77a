"""The convolution by the compiled kernel, which moves the states on in place."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.native import call, takes

_MAX_TAPS = 8
_CONVOLUTION = Struct("7q4q")  # struct Convolution of convolution.cpp


def fits(x: Tensor, weight: Tensor, states: Tensor) -> bool:
    """Whether the kernel can do this: some rows, one dtype, few taps, `states` [B, W-1, C] dense within a sequence."""
    same = x.dtype == weight.dtype == states.dtype
    dense = weight.is_contiguous() and states.stride(1) == states.shape[2]
    return takes(x, weight, states) and same and dense and weight.shape[0] <= _MAX_TAPS and x.shape[0] > 0


def convolve(x: Tensor, weight: Tensor, states: Tensor, sequences: int) -> Tensor:
    """`x` [sequences * tokens, C] after `states`, which become the last inputs. Returns [rows, C]."""
    out = torch.empty(x.shape, dtype=x.dtype)
    arguments = _CONVOLUTION.pack(
        sequences,
        x.shape[0] // sequences,
        x.shape[1],
        weight.shape[0],
        x.stride(0),
        states.stride(0),
        x.dtype is torch.bfloat16,
        *(tensor.data_ptr() for tensor in (x, weight, states, out)),
    )
    call("convolution", arguments)
    return out

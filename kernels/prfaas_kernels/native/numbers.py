"""How tensors are handed to compiled kernels: packed into bytes that mirror a C struct, cheaper than ctypes' own."""

import torch
from torch import Tensor

NOTHING = (0, 0)
"""The `Numbers` of a tensor that is not there."""


def numbers(x: Tensor) -> tuple[int, int]:
    """The two int64 of C's `Numbers`: the first element's address, and whether elements are bf16 (else fp32)."""
    return x.data_ptr(), x.dtype is torch.bfloat16


def rows(x: Tensor) -> Tensor:
    """`x` [R, ...] as [R, D] with dense rows, or [D] as [1, D]: a view where rows are dense already, else a copy."""
    dims = x.dim()
    if dims == 2 and x.is_contiguous():
        return x
    flat = x if dims == 2 else x.flatten(1) if dims > 2 else x[None]
    return flat if flat.stride(1) == 1 or flat.shape[1] <= 1 else flat.contiguous()

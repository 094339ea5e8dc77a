"""What a decoder asks of bytes before it reads them; needs no more than their number and where they begin."""

import torch
from torch import Tensor

from prfaas_kernels.bytes_codec.errors import CodecError


def check_size(data: Tensor, expected: int) -> None:
    """Raises CodecError unless `data` is so many bytes in one dimension."""
    check_bytes(data)
    if data.shape[0] != expected:
        raise CodecError(f"{expected} bytes are expected, not {data.shape[0]}")


def check_bytes(data: Tensor) -> None:
    """Raises CodecError unless `data` is bytes in one dimension."""
    if data.dtype is not torch.uint8 or data.dim() != 1 or not data.is_contiguous():
        raise CodecError(
            f"encoded bytes are a dense uint8 tensor of one dimension, not {data.dtype} {tuple(data.shape)}"
        )


def aligned(data: Tensor) -> Tensor:
    """`data`, or a copy where it begins too oddly in its memory for wide loads, and for a kernel that is compiled."""
    return data if data.storage_offset() % 16 == 0 else data.clone()


def check_exact(values: Tensor) -> None:
    """Raises CodecError unless `values` are bf16, which is all that `exact` is for."""
    if values.dtype is not torch.bfloat16:
        raise CodecError(f"exact is for bfloat16, not {values.dtype}")

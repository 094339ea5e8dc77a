"""States in 16 bits in torch's ops, on dense rows; does not know where rows lie."""

import torch
from torch import Tensor

LARGEST_SHIFT = 126
_BIAS = 127
_PEAK_EXPONENT = 14
"""The largest value of a row comes to lie in [2^14, 2^15): fp16 keeps 11 bits of all down to 2^-28 of it."""
_LARGEST_BITS = 0x7F800000 - 1


def encode(rows: Tensor) -> Tensor:
    """`rows` [R, D] fp32 as bytes: a power of two for each row, then its values in fp16."""
    peak = (rows.view(torch.int32) & 0x7FFFFFFF).amax(1, keepdim=True)
    finite = peak <= _LARGEST_BITS
    shift = (_PEAK_EXPONENT + _BIAS - (peak >> 23)).clamp_(max=LARGEST_SHIFT)
    unit = torch.where(finite, power_of_two(-shift), torch.nan)
    values = torch.where(finite, rows * power_of_two(shift), 0.0).half()
    return torch.cat([part.contiguous().view(-1).view(torch.uint8) for part in (unit, values)])


def decode(data: Tensor, n: int) -> Tensor:
    """The values of `encode`, [n, D] fp32."""
    return data[4 * n :].clone().view(torch.float16).view(n, -1).float() * units(data, n)


def units(data: Tensor, n: int) -> Tensor:
    """What a row's values are multiples of, [n, 1] fp32; NaN for a row that has a NaN or an infinity."""
    return data[: 4 * n].clone().view(torch.float32).view(n, 1)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent in fp32, made of its bits: exact for -126 to 127."""
    return (exponent + _BIAS << 23).view(torch.float32)

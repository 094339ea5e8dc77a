"""Both int8 formats in torch's ops, on dense rows; does not know pages."""

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.bytes_codec.sizes import BLOCK_TOKENS, GROUP_CHANNELS

LARGEST_CODE = 127.0
UNIT = float.fromhex("0x1.0204080000000p-7")
"""The fp32 nearest to 1/127: a scale is a product of it, so that it costs no division."""
SMALLEST_PEAK = 2.0**-100
"""Below it values are encoded as zero, so that no scale and no factor is subnormal or infinite."""
LARGEST_PEAK = torch.finfo(torch.bfloat16).max
"""Above it, NaN included, values are encoded as NaN: 127 scales might not be finite."""


def encode_channel(rows: Tensor) -> Tensor:
    """`rows` [n, C] as bytes: scales of 64 tokens of a channel, then codes."""
    n = rows.shape[0]
    padded = functional.pad(rows.float(), (0, 0, 0, -n % BLOCK_TOKENS))
    scales, codes = _quantised(torch.unflatten(padded, 0, (-1, BLOCK_TOKENS)), dim=1)
    return torch.cat([_bytes(scales), _bytes(codes.flatten(0, 1)[:n])])


def decode_channel(data: Tensor, n: int, channels: int) -> Tensor:
    """The values of `encode_channel`, [n, C] fp32."""
    blocks = -(-n // BLOCK_TOKENS)
    scales, codes = _parts(data, blocks * channels, n * channels)
    return codes.view(n, channels) * scales.view(blocks, channels).repeat_interleave(BLOCK_TOKENS, dim=0)[:n]


def encode_token(rows: Tensor) -> Tensor:
    """`rows` [n, C] as bytes: scales of 64 channels of a token, then codes."""
    channels = rows.shape[1]
    padded = functional.pad(rows.float(), (0, -channels % GROUP_CHANNELS))
    scales, codes = _quantised(torch.unflatten(padded, 1, (-1, GROUP_CHANNELS)), dim=2)
    return torch.cat([_bytes(scales), _bytes(codes.flatten(1)[:, :channels])])


def decode_token(data: Tensor, n: int, channels: int) -> Tensor:
    """The values of `encode_token`, [n, C] fp32."""
    groups = -(-channels // GROUP_CHANNELS)
    scales, codes = _parts(data, n * groups, n * channels)
    return codes.view(n, channels) * scales.view(n, groups).repeat_interleave(GROUP_CHANNELS, dim=1)[:, :channels]


def _quantised(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    peak = values.abs().amax(dim, keepdim=True)
    largest = torch.full_like(
        peak, LARGEST_CODE
    )  # a number over a tensor is its reciprocal times the number, rounded twice
    encodable = (peak >= SMALLEST_PEAK) & (peak <= LARGEST_PEAK)
    scale = torch.where(encodable, peak * UNIT, torch.where(peak < SMALLEST_PEAK, 0.0, torch.nan))
    factor = torch.where(encodable, largest / peak, 0.0)
    codes = torch.where(encodable, values * factor, 0.0).clamp_(-LARGEST_CODE, LARGEST_CODE).round_()
    return scale, codes.to(torch.int8)


def _bytes(x: Tensor) -> Tensor:
    return x.contiguous().view(-1).view(torch.uint8)


def _parts(data: Tensor, num_scales: int, num_codes: int) -> tuple[Tensor, Tensor]:
    scales = data[: 4 * num_scales].clone().view(torch.float32)
    return scales, data[4 * num_scales : 4 * num_scales + num_codes].view(torch.int8)

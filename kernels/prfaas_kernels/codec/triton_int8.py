"""Both int8 formats in Triton: a program holds values that share scales, so that it reads them once."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import BLOCK_TOKENS, GROUP_CHANNELS, int8_channel_bytes, int8_token_bytes
from prfaas_kernels.codec.checks import aligned, check_size
from prfaas_kernels.codec.int8 import LARGEST_PEAK, SMALLEST_PEAK, UNIT
from prfaas_kernels.codec.token_rows import PageSpan, TokenRows
from prfaas_kernels.launch import launch

_SMALLEST_PEAK = tl.constexpr(SMALLEST_PEAK)
_LARGEST_PEAK = tl.constexpr(LARGEST_PEAK)
_UNIT = tl.constexpr(UNIT)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_ROUND = tl.constexpr(12582912.0)  # added, it leaves the nearest integer in the low bits, ties to even
_GROUP_TOKENS = 32  # of one program of `int8_token`


@triton.jit
def _row_starts(token, there, page_ids_ptr, page_stride, first, channels, PAGE_TOKENS: tl.constexpr):
    """Elements before the values of each token."""
    if PAGE_TOKENS == 0:
        return token.to(tl.int64) * channels
    place = first + token
    page = tl.load(page_ids_ptr + place // PAGE_TOKENS, mask=there, other=0)
    return page * page_stride + place % PAGE_TOKENS * channels


@triton.jit
def _codes(data_ptr, num_scales):
    """Where codes begin: at a multiple of 4 bytes, which the compiler sees."""
    return data_ptr + num_scales.to(tl.int64) * 4


@triton.jit
def _quantised(x, AXIS: tl.constexpr):
    """Scales of `x` fp32 along an axis, kept as 1, and codes. Magnitudes are compared as bits: that keeps a NaN."""
    bits = x.to(tl.int32, bitcast=True) & _MAGNITUDE
    peak = tl.max(bits, axis=AXIS, keep_dims=True).to(tl.float32, bitcast=True)
    small = peak < _SMALLEST_PEAK
    encodable = (peak <= _LARGEST_PEAK) & (peak >= _SMALLEST_PEAK)
    safe = tl.where(encodable, peak, 1.0)
    scale = tl.where(encodable, safe * _UNIT, tl.where(small, 0.0, float("nan")))
    factor = tl.div_rn(127.0, safe)
    # Clamping between the product and the sum also keeps them from being fused, which would round once.
    scaled = tl.minimum(tl.maximum(tl.where(encodable, x, 0.0) * factor, -127.0), 127.0)
    return scale, (scaled + _ROUND).to(tl.int32, bitcast=True).to(tl.int8)


@triton.jit(do_not_specialize=["page_ids_ptr", "first", "tokens"])
def _encode_channel_kernel(
    x_ptr, page_ids_ptr, scales_ptr, data_ptr, num_scales, page_stride, first, tokens, channels,
    PAGE_TOKENS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(channels, CHANNELS)
    block = tl.program_id(0) // blocks
    token = block * TOKENS + tl.arange(0, TOKENS)
    channel = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    start = _row_starts(token, token < tokens, page_ids_ptr, page_stride, first, channels, PAGE_TOKENS)
    there = (token < tokens)[:, None] & (channel < channels)[None, :]
    x = tl.load(x_ptr + start[:, None] + channel[None, :], mask=there, other=0.0).to(tl.float32)
    scale, codes = _quantised(x, 0)
    at = block.to(tl.int64) * channels + channel
    tl.store(scales_ptr + at[None, :], scale, mask=(channel < channels)[None, :])
    tl.store(
        _codes(data_ptr, num_scales) + token.to(tl.int64)[:, None] * channels + channel[None, :], codes, mask=there
    )


@triton.jit(do_not_specialize=["page_ids_ptr", "first", "tokens"])
def _decode_channel_kernel(
    out_ptr, page_ids_ptr, scales_ptr, data_ptr, num_scales, page_stride, first, tokens, channels,
    PAGE_TOKENS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(channels, CHANNELS)
    block = tl.program_id(0) // blocks
    token = block * TOKENS + tl.arange(0, TOKENS)
    channel = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    start = _row_starts(token, token < tokens, page_ids_ptr, page_stride, first, channels, PAGE_TOKENS)
    there = (token < tokens)[:, None] & (channel < channels)[None, :]
    codes = tl.load(
        _codes(data_ptr, num_scales) + token.to(tl.int64)[:, None] * channels + channel[None, :], mask=there, other=0
    )
    scale = tl.load(scales_ptr + block.to(tl.int64) * channels + channel, mask=channel < channels, other=0.0)
    out = codes.to(tl.float32) * scale[None, :]
    tl.store(out_ptr + start[:, None] + channel[None, :], out.to(out_ptr.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["page_ids_ptr", "first", "tokens"])
def _encode_token_kernel(
    x_ptr, page_ids_ptr, scales_ptr, data_ptr, num_scales, page_stride, first, tokens, channels, groups,
    PAGE_TOKENS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0) % groups
    token = tl.program_id(0) // groups * TOKENS + tl.arange(0, TOKENS)
    channel = group * CHANNELS + tl.arange(0, CHANNELS)
    start = _row_starts(token, token < tokens, page_ids_ptr, page_stride, first, channels, PAGE_TOKENS)
    there = (token < tokens)[:, None] & (channel < channels)[None, :]
    x = tl.load(x_ptr + start[:, None] + channel[None, :], mask=there, other=0.0).to(tl.float32)
    scale, codes = _quantised(x, 1)
    row = token.to(tl.int64)[:, None]
    tl.store(scales_ptr + row * groups + group, scale, mask=(token < tokens)[:, None])
    tl.store(_codes(data_ptr, num_scales) + row * channels + channel[None, :], codes, mask=there)


@triton.jit(do_not_specialize=["page_ids_ptr", "num_scales", "first", "tokens"])
def _decode_token_kernel(
    out_ptr, page_ids_ptr, scales_ptr, data_ptr, num_scales, page_stride, first, tokens, channels, groups,
    PAGE_TOKENS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0) % groups
    token = tl.program_id(0) // groups * TOKENS + tl.arange(0, TOKENS)
    channel = group * CHANNELS + tl.arange(0, CHANNELS)
    start = _row_starts(token, token < tokens, page_ids_ptr, page_stride, first, channels, PAGE_TOKENS)
    there = (token < tokens)[:, None] & (channel < channels)[None, :]
    row = token.to(tl.int64)
    codes = tl.load(_codes(data_ptr, num_scales) + row[:, None] * channels + channel[None, :], mask=there, other=0)
    scale = tl.load(scales_ptr + row * groups + group, mask=token < tokens, other=0.0)
    out = codes.to(tl.float32) * scale[:, None]
    tl.store(out_ptr + start[:, None] + channel[None, :], out.to(out_ptr.dtype.element_ty), mask=there)


def encode_int8_channel(values: Tensor, span: PageSpan | None = None) -> Tensor:
    """As `cpu.encode_int8_channel`."""
    rows = TokenRows.of(values, span)
    size = int8_channel_bytes(rows.tokens, (rows.channels,))
    data = torch.empty(size, dtype=torch.uint8, device=values.device)
    _by_channel(_encode_channel_kernel, rows, data)
    return data


def decode_int8_channel(data: Tensor, out: Tensor, span: PageSpan | None = None) -> None:
    """As `cpu.decode_int8_channel`."""
    rows = TokenRows.of(out, span)
    check_size(data, int8_channel_bytes(rows.tokens, (rows.channels,)))
    _by_channel(_decode_channel_kernel, rows, data)


def encode_int8_token(values: Tensor, span: PageSpan | None = None) -> Tensor:
    """As `cpu.encode_int8_token`."""
    rows = TokenRows.of(values, span)
    size = int8_token_bytes(rows.tokens, (rows.channels,))
    data = torch.empty(size, dtype=torch.uint8, device=values.device)
    _by_token(_encode_token_kernel, rows, data)
    return data


def decode_int8_token(data: Tensor, out: Tensor, span: PageSpan | None = None) -> None:
    """As `cpu.decode_int8_token`."""
    rows = TokenRows.of(out, span)
    check_size(data, int8_token_bytes(rows.tokens, (rows.channels,)))
    _by_token(_decode_token_kernel, rows, data)


def _by_channel(kernel: object, rows: TokenRows, data: Tensor) -> None:
    blocks = triton.cdiv(rows.tokens, BLOCK_TOKENS)
    width = 128 if rows.channels % 128 == 0 else 64
    grid = (blocks * triton.cdiv(rows.channels, width),)
    parts = _parts(data, blocks * rows.channels)
    places = rows.page_stride, rows.first, rows.tokens, rows.channels
    tile = {"TOKENS": BLOCK_TOKENS, "CHANNELS": width}
    launch(kernel, grid, rows.tensor, rows.page_ids, *parts, *places, PAGE_TOKENS=rows.page_tokens, **tile)


def _by_token(kernel: object, rows: TokenRows, data: Tensor) -> None:
    groups = triton.cdiv(rows.channels, GROUP_CHANNELS)
    grid = (groups * triton.cdiv(rows.tokens, _GROUP_TOKENS),)
    parts = _parts(data, rows.tokens * groups)
    places = rows.page_stride, rows.first, rows.tokens, rows.channels, groups
    tile = {"TOKENS": _GROUP_TOKENS, "CHANNELS": GROUP_CHANNELS}
    launch(kernel, grid, rows.tensor, rows.page_ids, *parts, *places, PAGE_TOKENS=rows.page_tokens, **tile)


def _parts(data: Tensor, num_scales: int) -> tuple[Tensor, Tensor, int]:
    """The scales in `data`, all of it, and how many scales there are."""
    data = aligned(data)
    return data[: 4 * num_scales].view(torch.float32), data.view(torch.int8), num_scales

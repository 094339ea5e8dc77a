"""The definition of each format, one block, group, row or value after another."""

import math
import struct

import torch
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import BLOCK_TOKENS, BLOCK_VALUES, GROUP_CHANNELS, LANES, ExactLayout


def encode_int8_channel_reference(values: Tensor) -> bytes:
    """`values` [n, *dims] by scales of 64 tokens of one channel."""
    rows = values.flatten(1).float()
    pairs = [_quantised(block, 0) for block in torch.split(rows, BLOCK_TOKENS)]
    return _joined([scales for scales, _ in pairs]) + _joined([codes for _, codes in pairs])


def encode_int8_token_reference(values: Tensor) -> bytes:
    """`values` [n, *dims] by scales of 64 channels of one token."""
    groups = torch.split(values.flatten(1).float(), GROUP_CHANNELS, dim=1)
    pairs = [_quantised(group, 1) for group in groups]
    scales, codes = (torch.cat(part, dim=1) for part in zip(*pairs, strict=True))
    return _joined([scales]) + _joined([codes])


def encode_state16_reference(values: Tensor) -> bytes:
    """`values` [rows, *dims] fp32 as fp16 multiples of a power of two of each row."""
    units, halves = [], []
    for row in values.flatten(1).double():
        unit = torch.nan
        if row.isfinite().all():
            peak = float(row.abs().amax())
            unit = 2.0 ** max(math.frexp(peak)[1] - 15, -126) if peak else 2.0**-126  # peak / unit is in [2^14, 2^15)
        units.append(unit)
        halves.append((row / unit if unit == unit else torch.zeros_like(row)).float().half())
    return _joined([torch.tensor(units, dtype=torch.float32)]) + _joined(halves)


def encode_exact_reference(values: Tensor) -> bytes:
    """`values` [n, *dims] bf16: signs and mantissas, codes of exponents, and the exponents that have none."""
    bits = [pattern & 0xFFFF for pattern in values.flatten().view(torch.int16).tolist()]
    blocks = [_block(bits[at : at + BLOCK_VALUES]) for at in range(0, len(bits), BLOCK_VALUES)]
    kept, codes, table, escapes = (b"".join(part) for part in zip(*blocks, strict=True)) if blocks else [b""] * 4
    packed = kept + codes + table + escapes
    raw = struct.pack(f"<{len(bits)}H", *bits)
    if len(packed) < len(raw):
        return struct.pack("<2sBBIII", b"EX", 1, 0, len(bits), len(escapes), 0) + packed
    return struct.pack("<2sBBIII", b"EX", 1, 1, len(bits), 0, 0) + raw


def _quantised(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    peak = values.abs().amax(dim, keepdim=True)
    poisoned = ~(peak <= torch.finfo(torch.bfloat16).max)
    peak[(peak < 2.0**-100) | poisoned] = 0
    factor = torch.full_like(peak, 127).div(peak).where(peak > 0, 0)  # 127 / peak would round twice
    codes = torch.round(values.where(peak > 0, 0) * factor).to(torch.int8)
    return (peak * torch.tensor(1 / 127)).where(~poisoned, torch.nan), codes


def _block(bits: list[int]) -> tuple[bytes, bytes, bytes, bytes]:
    run = ExactLayout(len(bits)).last_run
    exponents = [pattern >> 7 & 0xFF for pattern in bits]
    counted = [exponent for exponent in exponents if exponent]
    top = min(sum(counted) // max(len(counted), 1) + 3, 255)
    words, escapes = [], []
    for column in range(run):
        word = 0
        for lane in range(LANES):
            place = lane * run + column
            code = (top - exponents[place]) % 256 if place < len(bits) else 0
            if code >= 7:
                code = 7
                escapes.append(exponents[place])
            word |= code << 3 * lane
        words.append(word)
    kept = [pattern >> 8 & 0x80 | pattern & 0x7F for pattern in bits]
    codes = [word >> 8 * plane & 0xFF for plane in range(3) for word in words]
    entry = struct.pack("<HBB", len(escapes), top, 0)
    return bytes(kept).ljust(LANES * run, b"\0"), bytes(codes), entry, bytes(escapes)


def _joined(parts: list[Tensor]) -> bytes:
    return b"".join(part.contiguous().flatten().view(torch.uint8).numpy().tobytes() for part in parts)

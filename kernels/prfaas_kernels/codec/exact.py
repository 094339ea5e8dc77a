"""The lossless format in torch's ops, on dense bit patterns; does not know pages."""

import torch
from torch import Tensor

from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.sizes import BLOCK_VALUES, HEADER_BYTES, LANES, RUN_VALUES, ExactLayout

MAGIC = 0x5845
"""`EX`, little-endian."""
VERSION = 1
PACKED, RAW = 0, 1
CODES = 7
"""Exponents of a block that have a code; the eighth code says that the exponent stands among the escapes."""
ABOVE_MEAN = 3
"""Of a block's largest coded exponent over the mean of those that are not 0. Of a normal distribution, and of some with
heavier tails, hardly any lie further up, and few more than three below the mean."""
WRONG_COUNT = "a block has not as many escapes as its entry in the table says"

_SHIFTS = 3 * torch.arange(LANES, dtype=torch.int32).view(LANES, 1)


def header(mode: int, values: int, escapes: int) -> Tensor:
    """The first 16 bytes."""
    first = MAGIC | VERSION << 16 | mode << 24
    return torch.tensor([first, values, escapes, 0]).to(torch.int32).view(torch.uint8)


def encode(values: Tensor) -> Tensor:
    """`values` [v] int16 bit patterns as bytes, no more than they need."""
    layout = ExactLayout(values.shape[0])
    bits = values.to(torch.int32) & 0xFFFF
    split = (layout.blocks - 1) * BLOCK_VALUES
    if layout.can_pay:
        groups = [_encoded(group) for group in (bits[:split], bits[split:]) if group.numel()]
        parts = [torch.cat(part) for part in zip(*groups, strict=True)]
        escapes = parts[-1].numel()
        if layout.escapes_at + escapes < layout.raw_bytes:
            return torch.cat([header(PACKED, layout.values, escapes), *parts])
    return torch.cat([header(RAW, layout.values, 0), values.view(torch.uint8)])


def decode(data: Tensor, num_values: int) -> Tensor:
    """The bit patterns, [num_values] int16. Raises CodecError."""
    layout = ExactLayout(num_values)
    escapes = check_header(data, layout)
    if escapes is None:
        return data[HEADER_BYTES:].clone().view(torch.int16)
    table, full = check_table(data, layout), layout.blocks - 1
    whole = int((table[:full] & 0xFFFF).sum())
    planes = data[HEADER_BYTES : layout.codes_at], data[layout.codes_at : layout.table_at]
    at = full * BLOCK_VALUES, full * 3 * RUN_VALUES, full, whole
    parts = [
        torch.tensor_split(part, [cut])
        for part, cut in zip((*planes, table, data[layout.escapes_at :]), at, strict=True)
    ]
    groups = [_decoded(*(part[i] for part in parts)) for i in (0, 1)]
    return torch.cat(groups)[:num_values]


def check_header(data: Tensor, layout: ExactLayout) -> int | None:
    """How many escapes there are, None if values are stored as they are. Raises CodecError if `data` says otherwise."""
    escapes = check_length(data, layout)
    expected = header(RAW if escapes is None else PACKED, layout.values, escapes or 0)
    if not torch.equal(data[:HEADER_BYTES], expected):
        found, wanted = (bytes(part.tolist()).hex() for part in (data[:HEADER_BYTES], expected))
        raise CodecError(f"the header is {found}, not {wanted}")
    return escapes


def check_length(data: Tensor, layout: ExactLayout) -> int | None:
    """As `check_header`, as far as the number of bytes tells: nothing that is coded is as long as its values."""
    if data.shape[0] == layout.raw_bytes:
        return None
    if not layout.escapes_at <= data.shape[0] < layout.raw_bytes:
        least = min(layout.escapes_at, layout.raw_bytes)
        raise CodecError(f"{layout.values} values take {least} to {layout.raw_bytes} bytes, not {data.shape[0]}")
    return data.shape[0] - layout.escapes_at


def check_table(data: Tensor, layout: ExactLayout) -> Tensor:
    """The table, [blocks] int32. Raises CodecError unless its counts add up to the escapes that there are."""
    table = data[layout.table_at : layout.escapes_at].clone().view(torch.int32)
    count, escapes = int((table & 0xFFFF).sum()), data.shape[0] - layout.escapes_at
    if count != escapes:
        raise CodecError(f"the table has {count} escapes, the header {escapes}")
    return table


def _encoded(bits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signs and mantissas, codes, table and escapes of whole blocks, or of a last one."""
    size = min(bits.shape[0], BLOCK_VALUES)
    run = ExactLayout(size).last_run
    there = torch.arange(LANES * run) < size
    blocks = torch.zeros(bits.shape[0] // size, LANES * run, dtype=torch.int32)
    blocks[:, :size] = bits.view(-1, size)
    exponents = blocks >> 7 & 0xFF
    count = (exponents > 0).sum(1).clamp(min=1)
    top = (exponents.sum(1) // count + ABOVE_MEAN).clamp(max=255)
    codes = top[:, None] - exponents & 0xFF
    escaped = (codes >= CODES) & there
    codes = codes.where(~escaped, CODES).where(there, 0).view(-1, LANES, run)
    words = (codes << _SHIFTS).sum(1)
    planes = torch.stack([words, words >> 8, words >> 16], dim=1) & 0xFF  # [blocks, 3, run]
    table = (escaped.sum(1) | top << 16).to(torch.int32)
    kept = blocks >> 8 & 0x80 | blocks & 0x7F
    escapes = _by_column(exponents, run)[_by_column(escaped, run)]
    signs, codes_of = (part.flatten().to(torch.uint8) for part in (kept, planes))
    return signs, codes_of, table.view(torch.uint8), escapes.to(torch.uint8)


def _decoded(kept: Tensor, planes: Tensor, table: Tensor, escapes: Tensor) -> Tensor:
    if not table.numel():
        return kept.new_empty(0, dtype=torch.int16)
    kept = kept.view(table.shape[0], -1).to(torch.int32)
    run = kept.shape[1] // LANES
    planes = planes.view(-1, 3, run).to(torch.int32)
    words = planes[:, 0] | planes[:, 1] << 8 | planes[:, 2] << 16
    codes = (words[:, None] >> _SHIFTS & 7).flatten(1)
    escaped = codes == CODES
    if not torch.equal(escaped.sum(1), table.long() & 0xFFFF):
        raise CodecError(WRONG_COUNT)
    exponents = (table >> 16 & 0xFF)[:, None] - codes & 0xFF
    by_column = _by_column(exponents, run).contiguous()
    by_column[_by_column(escaped, run)] = escapes.to(torch.int32)
    exponents = by_column.transpose(1, 2).flatten(1)
    bits = (kept & 0x80) << 8 | exponents << 7 | kept & 0x7F
    return bits.flatten().to(torch.int16)


def _by_column(values: Tensor, run: int) -> Tensor:
    """[blocks, values] as [blocks, run, lanes]: the order of escapes."""
    return values.view(-1, LANES, run).transpose(1, 2)

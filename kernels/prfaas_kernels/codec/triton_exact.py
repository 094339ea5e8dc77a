"""The lossless format in Triton: one program for a block. Encoding reads values once, decoding reads bytes once."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.codec import exact
from prfaas_kernels.codec.checks import aligned, check_bytes, check_exact
from prfaas_kernels.codec.sizes import BLOCK_VALUES, HEADER_BYTES, LANES, RUN_VALUES, ExactLayout
from prfaas_kernels.codec.token_rows import PageSpan, TokenRows
from prfaas_kernels.launch import launch

_CODES = tl.constexpr(exact.CODES)
_ABOVE_MEAN = tl.constexpr(exact.ABOVE_MEAN)
_HIGH_BITS = tl.constexpr(-0x7F7F7F80)  # 0x80808080 in 32 bits
_LANES = tl.constexpr(LANES)
_BLOCK = tl.constexpr(BLOCK_VALUES)
_RUN = tl.constexpr(RUN_VALUES)
_HEADER = tl.constexpr(HEADER_BYTES)
_PACKED_WORD = tl.constexpr(exact.MAGIC | exact.VERSION << 16 | exact.PACKED << 24)
_RAW_WORD = tl.constexpr(exact.MAGIC | exact.VERSION << 16 | exact.RAW << 24)
_WARPS = 2  # so that what a block costs whoever works on it is shared out to few; with one, registers spill


@triton.jit
def _block_pages(block, values, page_ids_ptr, page_stride, first, PAGE_VALUES: tl.constexpr):
    """What `_place` takes of a block: values before it in its first page, and what leads to that and the next page."""
    base = block * _BLOCK
    if PAGE_VALUES == 0:
        return base, block.to(tl.int64), block.to(tl.int64)
    start = first + base
    if PAGE_VALUES < _BLOCK:
        return start, block.to(tl.int64), block.to(tl.int64)
    low = start // PAGE_VALUES
    high = (first + tl.minimum(base + _BLOCK, values) - 1) // PAGE_VALUES
    near = tl.load(page_ids_ptr + low) * page_stride
    return start - low * PAGE_VALUES, near, tl.load(page_ids_ptr + high) * page_stride - PAGE_VALUES


@triton.jit
def _place(offset, there, pages, page_ids_ptr, page_stride, PAGE_VALUES: tl.constexpr):
    """Elements before those values of a block that are `there`."""
    skip, near, far = pages
    within = skip + offset
    if PAGE_VALUES == 0:
        return within
    if PAGE_VALUES < _BLOCK:
        page = tl.load(page_ids_ptr + within // PAGE_VALUES, mask=there, other=0)
        return page * page_stride + within % PAGE_VALUES
    return tl.where(within < PAGE_VALUES, near, far) + within  # a block lies in two pages at most


@triton.jit
def _bytes_in(four):
    """The sum of the bytes of each word, and how many are not 0."""
    pairs = (four & 0x00FF00FF) + ((four >> 8) & 0x00FF00FF)
    marks = ((((four & 0x7F7F7F7F) + 0x7F7F7F7F) | four) >> 7) & 0x01010101
    return (pairs & 0xFFFF) + ((pairs >> 16) & 0xFFFF), (marks * 0x01010101) >> 24


@triton.jit
def _top(low, high):
    """A block's largest exponent with a code, from all exponents."""
    low_sum, low_count = _bytes_in(low)
    high_sum, high_count = _bytes_in(high)
    mean = tl.sum(low_sum + high_sum, 0) // tl.maximum(tl.sum(low_count + high_count, 0), 1)
    return tl.minimum(mean + _ABOVE_MEAN, 255)


@triton.jit
def _below(top, four):
    """`top` less each byte of four, each modulo 256."""
    tops = top * 0x01010101
    return ((tops | _HIGH_BITS) - (four & 0x7F7F7F7F)) ^ ((tops ^ ~four) & _HIGH_BITS)


@triton.jit
def _narrow(four):
    """Four bytes of codes, of which those above 7 become 7, as 12 bits."""
    marks = ((((four & 0x7F7F7F7F) + 0x79797979) | four) >> 7) & 0x01010101  # those of 7 and more
    four = (four | marks * 7) & 0x07070707
    two = (four | (four >> 5)) & 0x003F003F
    return (two | (two >> 10)) & 0xFFF


@triton.jit
def _widened(bits):
    """Four codes of 12 bits as bytes."""
    two = (bits & 0x3F) | ((bits & 0xFC0) << 10)
    return (two | (two << 5)) & 0x07070707


@triton.jit
def _escapes(word):
    """A mark at the lowest bit of each code of a word that is 7, and how many there are."""
    marks = word & (word >> 1) & (word >> 2) & 0x249249
    pairs = (marks & 0x041041) + ((marks >> 3) & 0x041041)
    return marks, (pairs + (pairs >> 6) + (pairs >> 12) + (pairs >> 18)) & 0xF


@triton.jit
def _first_mark(marks):
    """Whether a column's first mark is in its first four lanes, bits before that lane's byte, and the other marks."""
    first = marks & -marks
    bit = (first.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
    return bit < 12, ((bit * 11) >> 2) & 24, marks ^ first


@triton.jit
def _encode_block(
    x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, run, codes_at,
    FULL: tl.constexpr, PAGE_VALUES: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    wide = block.to(tl.int64)
    left = values - block * _BLOCK
    pages = _block_pages(block, values, page_ids_ptr, page_stride, first, PAGE_VALUES)
    column = tl.arange(0, _RUN)
    stored = tl.full([_RUN], 1, tl.int1) if FULL else column < run
    low = tl.zeros([_RUN], tl.int32)  # exponents of four lanes
    high = tl.zeros([_RUN], tl.int32)
    absent = tl.zeros([_RUN], tl.int32)  # codes of what is past the end
    for lane in tl.static_range(_LANES):
        offset = lane * run + column
        there = stored if FULL else stored & (offset < left)
        place = _place(offset, there, pages, page_ids_ptr, page_stride, PAGE_VALUES)
        bits = tl.load(x_ptr + place, mask=there, other=0).to(tl.int32)
        kept = ((bits >> 8) & 0x80) | (bits & 0x7F)
        tl.store(data_ptr + _HEADER + wide * _BLOCK + offset, kept.to(tl.uint8), mask=stored)
        exponent = (bits >> 7) & 0xFF
        if lane < 4:
            low |= exponent << (8 * lane)
        else:
            high |= exponent << (8 * (lane - 4))
        if not FULL:
            absent |= tl.where(there, 0, 7 << (3 * lane))
    top = _top(low, high)
    word = _narrow(_below(top, low)) | (_narrow(_below(top, high)) << 12)
    word = word if FULL else word & ~absent
    planes_ptr = data_ptr + codes_at + wide * (3 * _RUN)
    for plane in tl.static_range(3):
        tl.store(planes_ptr + plane * run + column, ((word >> (8 * plane)) & 0xFF).to(tl.uint8), mask=stored)
    # Scattered stores want one column to a thread: gathering moves three tensors there, not each that they lead to.
    word = tl.gather(word, column, 0)
    low = tl.gather(low, column, 0)
    high = tl.gather(high, column, 0)
    marks, count = _escapes(word)
    tl.store(table_ptr + block, tl.sum(count, 0) | (top << 16))
    escape_ptr = scratch_ptr + wide * _BLOCK + tl.cumsum(count, 0) - count
    for i in range(tl.max(count, 0)):
        escaped = marks != 0
        in_low, shift, marks = _first_mark(marks)
        tl.store(escape_ptr + i, (tl.where(in_low, low, high) >> shift).to(tl.uint8), mask=escaped)


@triton.jit(do_not_specialize=["page_ids_ptr", "values"])
def _encode_exact_kernel(
    x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, last_run, codes_at,
    PAGE_VALUES: tl.constexpr,
):  # fmt: skip
    """All but header and escapes; those of a block go to its place in `scratch_ptr`."""
    if tl.program_id(0) < tl.num_programs(0) - 1:
        _encode_block(
            x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, _RUN, codes_at,
            True, PAGE_VALUES,
        )  # fmt: skip
    else:
        _encode_block(
            x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, last_run, codes_at,
            False, PAGE_VALUES,
        )  # fmt: skip


@triton.jit(do_not_specialize=["page_ids_ptr", "values", "escapes_at", "room"])
def _finish_exact_kernel(
    x_ptr, page_ids_ptr, data_ptr, header_ptr, raw_ptr, scratch_ptr, ends_ptr, length_ptr,
    page_stride, first, values, escapes_at, room, PAGE_VALUES: tl.constexpr,
):  # fmt: skip
    """Escapes to where they belong, or, if there is no room for them, values as they are; and the header."""
    block = tl.program_id(0)
    wide = block.to(tl.int64) * _BLOCK
    column = tl.arange(0, _RUN)
    escapes = tl.load(ends_ptr + tl.num_programs(0) - 1)
    packed = escapes < room
    if block == 0:
        tl.store(header_ptr, tl.where(packed, _PACKED_WORD, _RAW_WORD))
        tl.store(header_ptr + 1, values)
        tl.store(header_ptr + 2, tl.where(packed, escapes, 0).to(tl.int32))
        tl.store(header_ptr + 3, 0)
        tl.store(length_ptr, escapes_at + tl.minimum(escapes, room))
    if packed:
        start = tl.load(ends_ptr + block - 1, mask=block > 0, other=0)
        count = (tl.load(ends_ptr + block) - start).to(tl.int32)
        for at in range(0, count, _RUN):
            there = at + column < count
            escape = tl.load(scratch_ptr + wide + at + column, mask=there, other=0)
            tl.store(data_ptr + escapes_at + start + at + column, escape, mask=there)
    else:
        left = values - block * _BLOCK
        pages = _block_pages(block, values, page_ids_ptr, page_stride, first, PAGE_VALUES)
        for lane in range(_LANES):
            offset = lane * _RUN + column
            place = _place(offset, offset < left, pages, page_ids_ptr, page_stride, PAGE_VALUES)
            bits = tl.load(x_ptr + place, mask=offset < left, other=0)
            tl.store(raw_ptr + wide + offset, bits, mask=offset < left)


@triton.jit
def _decode_block(
    out_ptr, page_ids_ptr, data_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
    page_stride, first, values, run, codes_at, escapes_at, escapes, FULL: tl.constexpr, PAGE_VALUES: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    wide = block.to(tl.int64)
    column = tl.arange(0, _RUN)
    stored = tl.full([_RUN], 1, tl.int1) if FULL else column < run
    word = tl.zeros([_RUN], tl.int32)
    for plane in tl.static_range(3):
        part = tl.load(data_ptr + codes_at + wide * (3 * _RUN) + plane * run + column, mask=stored, other=0)
        word |= part.to(tl.int32) << (8 * plane)
    marks, count = _escapes(word)
    entry = tl.load(table_ptr + block)
    top = (entry >> 16) & 0xFF
    expected = entry & 0xFFFF
    flawed = tl.sum(count, 0) != expected
    if block == 0:
        header = (tl.load(header_ptr) != _PACKED_WORD) | (tl.load(header_ptr + 1) != values)
        header |= (tl.load(header_ptr + 2) != escapes) | (tl.load(header_ptr + 3) != 0)
        flawed |= header | (tl.load(ends_ptr + tl.num_programs(0) - 1) != escapes)
    tl.store(flaws_ptr, 1, mask=flawed)
    before = tl.load(ends_ptr + block) - expected
    room = tl.minimum(tl.maximum(escapes - before, 0), _BLOCK).to(tl.int32)
    rank = tl.cumsum(count, 0) - count
    low = _below(top, _widened(word))
    high = _below(top, _widened(word >> 12))
    for i in range(tl.max(count, 0)):
        there = (marks != 0) & (rank + i < room)
        in_low, shift, marks = _first_mark(marks)
        escape = tl.load(data_ptr + escapes_at + before + rank + i, mask=there, other=0).to(tl.int32)
        # What stands there now is top - 7.
        change = tl.where(there, (escape ^ ((top - _CODES) & 0xFF)) << shift, 0)
        low ^= tl.where(in_low, change, 0)
        high ^= tl.where(in_low, 0, change)
    pages = _block_pages(block, values, page_ids_ptr, page_stride, first, PAGE_VALUES)
    for lane in tl.static_range(_LANES):
        offset = lane * run + column
        exponent = ((low >> (8 * lane)) if lane < 4 else (high >> (8 * (lane - 4)))) & 0xFF
        kept = tl.load(data_ptr + _HEADER + wide * _BLOCK + offset, mask=stored, other=0).to(tl.int32)
        bits = ((kept & 0x80) << 8) | (exponent << 7) | (kept & 0x7F)
        there = stored if FULL else stored & (offset < values - block * _BLOCK)
        place = _place(offset, there, pages, page_ids_ptr, page_stride, PAGE_VALUES)
        tl.store(out_ptr + place, bits.to(tl.int16), mask=there)


@triton.jit(do_not_specialize=["page_ids_ptr", "values", "escapes_at", "escapes"])
def _decode_exact_kernel(
    out_ptr, page_ids_ptr, data_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
    page_stride, first, values, last_run, codes_at, escapes_at, escapes, PAGE_VALUES: tl.constexpr,
):  # fmt: skip
    """Whatever the bytes say, reads of escapes stay among them, and writes among the values."""
    if tl.program_id(0) < tl.num_programs(0) - 1:
        _decode_block(
            out_ptr, page_ids_ptr, data_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
            page_stride, first, values, _RUN, codes_at, escapes_at, escapes, True, PAGE_VALUES,
        )  # fmt: skip
    else:
        _decode_block(
            out_ptr, page_ids_ptr, data_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
            page_stride, first, values, last_run, codes_at, escapes_at, escapes, False, PAGE_VALUES,
        )  # fmt: skip


def encode_exact(values: Tensor, span: PageSpan | None = None) -> tuple[Tensor, Tensor]:
    """As `cpu.encode_exact`."""
    check_exact(values)
    rows = TokenRows.of(values, span)
    layout = ExactLayout(rows.values)
    data = torch.empty(layout.raw_bytes, dtype=torch.uint8, device=values.device)
    if not layout.can_pay:
        data[:HEADER_BYTES] = exact.header(exact.RAW, layout.values, 0).to(values.device, non_blocking=True)
        data[HEADER_BYTES:].view(torch.bfloat16).copy_(rows.gather().flatten())
        return data, torch.full((), layout.raw_bytes, dtype=torch.int64, device=values.device)
    table = data[layout.table_at : layout.escapes_at].view(torch.int32)
    scratch = torch.empty(layout.blocks * BLOCK_VALUES, dtype=torch.uint8, device=values.device)
    length = torch.empty((), dtype=torch.int64, device=values.device)
    bits, where, paged = values.view(torch.int16), *_where(rows)
    launch(
        _encode_exact_kernel, (layout.blocks,), bits, rows.page_ids, data, table, scratch,
        *where, layout.last_run, layout.codes_at, num_warps=_WARPS, **paged,
    )  # fmt: skip
    ends = (table & 0xFFFF).cumsum(0)
    parts = data[:HEADER_BYTES].view(torch.int32), data[HEADER_BYTES:].view(torch.int16)
    launch(
        _finish_exact_kernel, (layout.blocks,), bits, rows.page_ids, data, *parts, scratch, ends, length,
        *where, layout.escapes_at, layout.raw_bytes - layout.escapes_at, num_warps=_WARPS, **paged,
    )  # fmt: skip
    return data, length


def decode_exact(data: Tensor, out: Tensor, span: PageSpan | None = None) -> Tensor:
    """As `cpu.decode_exact`."""
    check_bytes(data)
    check_exact(out)
    rows = TokenRows.of(out, span)
    layout = ExactLayout(rows.values)
    escapes = exact.check_length(data, layout)
    data = aligned(data)
    if escapes is None:
        expected = exact.header(exact.RAW, layout.values, 0).to(data.device, non_blocking=True)
        rows.scatter(data[HEADER_BYTES:].view(torch.bfloat16).view(rows.tokens, rows.channels))
        return (data[:HEADER_BYTES] != expected).any().to(torch.int32)
    flaws = torch.zeros((), dtype=torch.int32, device=data.device)
    header, table = (
        data[start:stop].view(torch.int32) for start, stop in ((0, HEADER_BYTES), (layout.table_at, layout.escapes_at))
    )
    ends = (table & 0xFFFF).cumsum(0)
    where, paged = _where(rows)
    launch(
        _decode_exact_kernel, (layout.blocks,), out.view(torch.int16), rows.page_ids, data, header, table, ends, flaws,
        *where, layout.last_run, layout.codes_at, layout.escapes_at, escapes, num_warps=_WARPS, **paged,
    )  # fmt: skip
    return flaws


def _where(rows: TokenRows) -> tuple[tuple[int, int, int], dict[str, int]]:
    """How kernels find values: the strides and counts they take, and their constant."""
    return (rows.page_stride, rows.first * rows.channels, rows.values), {
        "PAGE_VALUES": rows.page_tokens * rows.channels
    }

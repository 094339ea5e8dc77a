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
_ODD_BYTES = tl.constexpr(-0x00FF0100)  # 0xFF00FF00
_SIGNS = tl.constexpr(-0x7FFF8000)  # 0x80008000
_EXPONENTS = tl.constexpr(0x7F807F80)
_LANES = tl.constexpr(LANES)
_BLOCK = tl.constexpr(BLOCK_VALUES)
_RUN = tl.constexpr(RUN_VALUES)
_PAIRS = tl.constexpr(RUN_VALUES // 2)  # of columns
_HEADER = tl.constexpr(HEADER_BYTES)
_PACKED_WORD = tl.constexpr(exact.MAGIC | exact.VERSION << 16 | exact.PACKED << 24)
_RAW_WORD = tl.constexpr(exact.MAGIC | exact.VERSION << 16 | exact.RAW << 24)
_WARPS = 2  # so that what a block costs whoever works on it is shared out to few; with one, registers spill


@triton.jit
def _block_pages(block, values, page_ids_ptr, page_stride, first, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr):
    """What `_place` takes of a block: units before it in its first page, and what leads to that and the next page."""
    base = block * (_BLOCK // UNIT)
    if PAGE_UNITS == 0:
        return base, block.to(tl.int64), block.to(tl.int64)
    start = first + base
    if PAGE_UNITS < _BLOCK // UNIT:
        return start, block.to(tl.int64), block.to(tl.int64)
    low = start // PAGE_UNITS
    high = (first + tl.minimum(base + _BLOCK // UNIT, values // UNIT) - 1) // PAGE_UNITS
    near = tl.load(page_ids_ptr + low) * page_stride
    return start - low * PAGE_UNITS, near, tl.load(page_ids_ptr + high) * page_stride - PAGE_UNITS


@triton.jit
def _place(offset, there, pages, page_ids_ptr, page_stride, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr):
    """Units, of UNIT values, before those of a block that are `there`."""
    skip, near, far = pages
    within = skip + offset
    if PAGE_UNITS == 0:
        return within
    if PAGE_UNITS < _BLOCK // UNIT:
        page = tl.load(page_ids_ptr + within // PAGE_UNITS, mask=there, other=0)
        return page * page_stride + within % PAGE_UNITS
    return tl.where(within < PAGE_UNITS, near, far) + within  # a block lies in two pages at most


@triton.jit
def _words(halves):
    """16-bit values two to a word: those of columns 2p (low) and 2p + 1. Words of two lanes make one of exponents."""
    even, odd = tl.split(tl.reshape(halves, [_PAIRS, 2]))
    return (even.to(tl.int32) & 0xFFFF) | (odd.to(tl.int32) << 16)


@triton.jit
def _columns(even, odd):
    """[_RUN] from what there is of columns 2p and of columns 2p + 1."""
    return tl.reshape(tl.join(even, odd), [_RUN])


@triton.jit
def _exponents(even, odd):
    """Of an even lane's and the next lane's words: bytes of column 2p, even and odd lane, then of column 2p + 1."""
    return ((even >> 7) & 0x00FF00FF) | ((odd << 1) & _ODD_BYTES)


@triton.jit
def _four_lanes(first, second):
    """The exponents of two pairs of lanes by column: those of column 2p, and those of column 2p + 1."""
    return (first & 0xFFFF) | (second << 16), ((first >> 16) & 0xFFFF) | (second & -0x10000)


@triton.jit
def _below(top, four):
    """`top` less each byte of four, each modulo 256."""
    tops = top * 0x01010101
    return ((tops | _HIGH_BITS) - (four & 0x7F7F7F7F)) ^ ((tops ^ ~four) & _HIGH_BITS)


@triton.jit
def _summed(four):
    """Sums of the low two and of the high two bytes, as halves; and a 1 in each byte that is not 0."""
    marks = ((((four & 0x7F7F7F7F) + 0x7F7F7F7F) | four) >> 7) & 0x01010101
    return (four & 0x00FF00FF) + ((four >> 8) & 0x00FF00FF), marks


@triton.jit
def _top(a, b, c, d):
    """A block's largest exponent with a code, from all exponents."""
    a_sums, a_marks = _summed(a)
    b_sums, b_marks = _summed(b)
    c_sums, c_marks = _summed(c)
    d_sums, d_marks = _summed(d)
    sums, marks = a_sums + b_sums + c_sums + d_sums, a_marks + b_marks + c_marks + d_marks
    count = tl.sum((marks * 0x01010101) >> 24, 0)
    mean = tl.sum((sums & 0xFFFF) + (sums >> 16), 0) // tl.maximum(count, 1)
    return tl.minimum(mean + _ABOVE_MEAN, 255)


@triton.jit
def _coded(top, four, present):
    """Codes of exponents, two lanes as 6 bits of each half, and a 1 in the byte of each that is an escape."""
    four = _below(top, four)
    marks = ((((four & 0x7F7F7F7F) + 0x79797979) | four) >> 7) & 0x01010101 & present
    four = (four | marks * 7) & 0x07070707 & present
    return (four | (four >> 5)) & 0x003F003F, marks


@triton.jit
def _packed(halves):
    """The low byte of each half, side by side."""
    return (halves | (halves >> 8)).to(tl.int16)


@triton.jit
def _unpacked(two):
    """Two bytes as the low bytes of the halves of a word."""
    word = two.to(tl.int32)
    return (word & 0xFF) | ((word & 0xFF00) << 8)


@triton.jit
def _ranked(a, b, c, d):
    """From marks of lanes two by two: by column 8 marks and, from bit 8 on, those before it; its sum and its most."""
    counts = a + b + c + d
    counts = (counts & 0x00FF00FF) + ((counts >> 8) & 0x00FF00FF)
    even, odd = counts & 0xFFFF, counts >> 16
    both = even + odd
    rank = tl.cumsum(both, 0) - both
    marks = a | (b << 2) | (c << 4) | (d << 6)
    marks = (marks | (marks >> 7)) & 0x00FF00FF
    ranked = _columns((marks & 0xFF) | (rank << 8), (marks >> 16) | ((rank + even) << 8))
    return ranked, tl.sum(both, 0), tl.max(tl.maximum(even, odd), 0)


@triton.jit
def _first_mark(marks):
    """Whether a column's first mark is in its first four lanes, bits before that lane's byte, and the other marks."""
    first = marks & -marks
    return first < 16, ((first.to(tl.float32).to(tl.int32, bitcast=True) >> 20) + 8) & 24, marks ^ first


@triton.jit
def _lane_units(lane, run, left, FULL: tl.constexpr, UNIT: tl.constexpr):
    """Units of a lane by their place in the block, and which of them there are."""
    unit, units = tl.arange(0, _RUN // UNIT), run // UNIT
    offset = lane * units + unit
    there = tl.full([_RUN // UNIT], 1, tl.int1) if FULL else (unit < units) & (offset < left // UNIT)
    return offset, there


@triton.jit
def _load_lane(x_ptr, lane, run, left, pages, page_ids_ptr, page_stride, FULL: tl.constexpr, UNIT: tl.constexpr,
    PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """A lane's words; in the last block also where there are any, as exponents of all ones."""
    offset, there = _lane_units(lane, run, left, FULL, UNIT)
    place = _place(offset, there, pages, page_ids_ptr, page_stride, UNIT, PAGE_UNITS)
    words, present = tl.load(x_ptr + place, mask=there, other=0), tl.where(there, _EXPONENTS, 0)
    if UNIT == 1:
        words, present = _words(words), _words(present & 0xFFFF)
    return words, present


@triton.jit
def _encode_lanes(
    x_ptr, kept_ptr, stored, lane, run, left, pages, page_ids_ptr, page_stride,
    FULL: tl.constexpr, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """Writes signs and mantissas of a lane and the next; their exponents, and all ones where there are any."""
    even, has_even = _load_lane(x_ptr, lane, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS)
    odd, has_odd = _load_lane(x_ptr, lane + 1, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS)
    kept = ((even >> 8) & 0x00800080) | (even & 0x007F007F)
    tl.store(kept_ptr + lane * (run // 2), _packed(kept), mask=stored)
    kept = ((odd >> 8) & 0x00800080) | (odd & 0x007F007F)
    tl.store(kept_ptr + (lane + 1) * (run // 2), _packed(kept), mask=stored)
    return _exponents(even, odd), _exponents(has_even, has_odd)


@triton.jit
def _encode_block(
    x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, run, codes_at,
    FULL: tl.constexpr, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    wide = block.to(tl.int64)
    left = values - block * _BLOCK
    pages = _block_pages(block, values, page_ids_ptr, page_stride, first, UNIT, PAGE_UNITS)
    column, pair, half = tl.arange(0, _RUN), tl.arange(0, _PAIRS), run // 2
    stored = tl.full([_PAIRS], 1, tl.int1) if FULL else pair < half
    kept_ptr = data_ptr + _HEADER // 2 + wide * (_BLOCK // 2) + pair
    a, a_present = _encode_lanes(
        x_ptr, kept_ptr, stored, 0, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS
    )  # fmt: skip
    b, b_present = _encode_lanes(
        x_ptr, kept_ptr, stored, 2, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS
    )  # fmt: skip
    c, c_present = _encode_lanes(
        x_ptr, kept_ptr, stored, 4, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS
    )  # fmt: skip
    d, d_present = _encode_lanes(
        x_ptr, kept_ptr, stored, 6, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS
    )  # fmt: skip
    top = _top(a, b, c, d)
    a_codes, a_marks = _coded(top, a, a_present)
    b_codes, b_marks = _coded(top, b, b_present)
    c_codes, c_marks = _coded(top, c, c_present)
    d_codes, d_marks = _coded(top, d, d_present)
    low, high = a_codes | (b_codes << 6), c_codes | (d_codes << 6)
    planes_ptr = data_ptr + codes_at // 2 + wide * (3 * _PAIRS) + pair
    tl.store(planes_ptr, _packed(low & 0x00FF00FF), mask=stored)
    middle = ((low >> 8) & 0x000F000F) | ((high & 0x000F000F) << 4)
    tl.store(planes_ptr + half, _packed(middle), mask=stored)
    tl.store(planes_ptr + 2 * half, _packed((high >> 4) & 0x00FF00FF), mask=stored)

    ranked, count, most = _ranked(a_marks, b_marks, c_marks, d_marks)
    tl.store(table_ptr + block, count | (top << 16))
    low_even, low_odd = _four_lanes(a, b)
    high_even, high_odd = _four_lanes(c, d)
    # Scattered stores want one column to a thread: gathering moves three tensors there, not each that they lead to.
    ranked = tl.gather(ranked, column, 0)
    low = tl.gather(_columns(low_even, low_odd), column, 0)
    high = tl.gather(_columns(high_even, high_odd), column, 0)
    marks, escape_ptr = ranked & 0xFF, scratch_ptr + wide * _BLOCK + (ranked >> 8)
    for i in range(most):
        escaped = marks != 0
        in_low, shift, marks = _first_mark(marks)
        tl.store(escape_ptr + i, (tl.where(in_low, low, high) >> shift).to(tl.uint8), mask=escaped)


@triton.jit(do_not_specialize=["page_ids_ptr", "values"])
def _encode_exact_kernel(
    x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, last_run, codes_at,
    UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """All but header and escapes; those of a block go to its place in `scratch_ptr`."""
    if tl.program_id(0) < tl.num_programs(0) - 1:
        _encode_block(
            x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, _RUN, codes_at,
            True, UNIT, PAGE_UNITS,
        )  # fmt: skip
    else:
        _encode_block(
            x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, last_run, codes_at,
            False, UNIT, PAGE_UNITS,
        )  # fmt: skip


@triton.jit(do_not_specialize=["page_ids_ptr", "values", "escapes_at", "room"])
def _finish_exact_kernel(
    x_ptr, page_ids_ptr, data_ptr, header_ptr, raw_ptr, scratch_ptr, ends_ptr, length_ptr,
    page_stride, first, values, escapes_at, room, PAGE_UNITS: tl.constexpr,
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
        pages = _block_pages(block, values, page_ids_ptr, page_stride, first, 1, PAGE_UNITS)
        for lane in range(_LANES):
            offset = lane * _RUN + column
            place = _place(offset, offset < left, pages, page_ids_ptr, page_stride, 1, PAGE_UNITS)
            bits = tl.load(x_ptr + place, mask=offset < left, other=0)
            tl.store(raw_ptr + wide + offset, bits, mask=offset < left)


@triton.jit
def _widened(bits):
    """Codes of two lanes, 6 bits of each half, as bytes; and a 1 in the byte of each that is an escape."""
    four = ((bits & 0x003F003F) | ((bits & 0x003F003F) << 5)) & 0x07070707
    return four, four & (four >> 1) & (four >> 2)


@triton.jit
def _store_lane(
    out_ptr, kept, exponents, lane, run, left, pages, page_ids_ptr, page_stride,
    FULL: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """Values of a lane from what was kept and exponents at their place in each half."""
    kept = _unpacked(kept)
    words = ((kept << 8) & _SIGNS) | (kept & 0x007F007F) | exponents
    offset, there = _lane_units(lane, run, left, FULL, 1)
    place = _place(offset, there, pages, page_ids_ptr, page_stride, 1, PAGE_UNITS)
    # Stored as words, columns would have to change threads in every round of the loop over escapes.
    tl.store(out_ptr + place, _columns(words.to(tl.int16), (words >> 16).to(tl.int16)), mask=there)


@triton.jit
def _decode_block(
    out_ptr, page_ids_ptr, data_ptr, halves_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
    page_stride, first, values, run, codes_at, escapes_at, escapes, FULL: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    wide = block.to(tl.int64)
    pair, half = tl.arange(0, _PAIRS), run // 2
    stored = tl.full([_PAIRS], 1, tl.int1) if FULL else pair < half
    planes_ptr = halves_ptr + codes_at // 2 + wide * (3 * _PAIRS) + pair
    low = _unpacked(tl.load(planes_ptr, mask=stored, other=0))
    middle = _unpacked(tl.load(planes_ptr + half, mask=stored, other=0))
    high = _unpacked(tl.load(planes_ptr + 2 * half, mask=stored, other=0))
    low |= (middle & 0x000F000F) << 8
    high = (high << 4) | ((middle >> 4) & 0x000F000F)
    a, a_marks = _widened(low)
    b, b_marks = _widened(low >> 6)
    c, c_marks = _widened(high)
    d, d_marks = _widened(high >> 6)
    ranked, count, most = _ranked(a_marks, b_marks, c_marks, d_marks)
    entry = tl.load(table_ptr + block)
    top = (entry >> 16) & 0xFF
    expected = entry & 0xFFFF
    flawed = count != expected
    if block == 0:
        header = (tl.load(header_ptr) != _PACKED_WORD) | (tl.load(header_ptr + 1) != values)
        header |= (tl.load(header_ptr + 2) != escapes) | (tl.load(header_ptr + 3) != 0)
        flawed |= header | (tl.load(ends_ptr + tl.num_programs(0) - 1) != escapes)
    tl.store(flaws_ptr, 1, mask=flawed)
    before = tl.load(ends_ptr + block) - expected
    room = tl.minimum(tl.maximum(escapes - before, 0), _BLOCK).to(tl.int32)
    low_even, low_odd = _four_lanes(_below(top, a), _below(top, b))
    high_even, high_odd = _four_lanes(_below(top, c), _below(top, d))
    low, high = _columns(low_even, low_odd), _columns(high_even, high_odd)
    marks, rank = ranked & 0xFF, ranked >> 8
    escape_ptr = data_ptr + escapes_at + before + rank
    for i in range(most):
        there = (marks != 0) & (rank + i < room)
        in_low, shift, marks = _first_mark(marks)
        escape = tl.load(escape_ptr + i, mask=there, other=0).to(tl.int32)
        # What stands there now is top - 7.
        change = tl.where(there, (escape ^ ((top - _CODES) & 0xFF)) << shift, 0)
        low ^= tl.where(in_low, change, 0)
        high ^= tl.where(in_low, 0, change)
    low_even, low_odd = tl.split(tl.reshape(low, [_PAIRS, 2]))
    high_even, high_odd = tl.split(tl.reshape(high, [_PAIRS, 2]))
    first_lanes, second_lanes = _four_lanes(low_even, low_odd)
    third_lanes, fourth_lanes = _four_lanes(high_even, high_odd)
    exponents = first_lanes, second_lanes, third_lanes, fourth_lanes
    pages = _block_pages(block, values, page_ids_ptr, page_stride, first, 1, PAGE_UNITS)
    left = values - block * _BLOCK
    kept_ptr = halves_ptr + _HEADER // 2 + wide * (_BLOCK // 2) + pair
    for lane in tl.static_range(_LANES):
        four = exponents[lane // 2]
        at_place = (four << 7) & _EXPONENTS if lane % 2 == 0 else (four >> 1) & _EXPONENTS
        kept = tl.load(kept_ptr + lane * half, mask=stored, other=0)
        _store_lane(
            out_ptr, kept, at_place, lane, run, left, pages, page_ids_ptr, page_stride, FULL, PAGE_UNITS
        )  # fmt: skip


@triton.jit(do_not_specialize=["page_ids_ptr", "values", "escapes_at", "escapes"])
def _decode_exact_kernel(
    out_ptr, page_ids_ptr, data_ptr, halves_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
    page_stride, first, values, last_run, codes_at, escapes_at, escapes, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """Whatever the bytes say, reads of escapes stay among them, and writes among the values."""
    if tl.program_id(0) < tl.num_programs(0) - 1:
        _decode_block(
            out_ptr, page_ids_ptr, data_ptr, halves_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
            page_stride, first, values, _RUN, codes_at, escapes_at, escapes, True, PAGE_UNITS,
        )  # fmt: skip
    else:
        _decode_block(
            out_ptr, page_ids_ptr, data_ptr, halves_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
            page_stride, first, values, last_run, codes_at, escapes_at, escapes, False, PAGE_UNITS,
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
    units, where, paged = _in_units(rows, _unit(rows))
    launch(
        _encode_exact_kernel, (layout.blocks,), units, rows.page_ids, data.view(torch.int16), table, scratch,
        *where, layout.last_run, layout.codes_at, num_warps=_WARPS, UNIT=_unit(rows), **paged,
    )  # fmt: skip
    bits, where, paged = _in_units(rows, 1)
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
    halves = data[: layout.escapes_at // 2 * 2].view(torch.int16)
    units, where, paged = _in_units(rows, 1)
    launch(
        _decode_exact_kernel, (layout.blocks,), units, rows.page_ids, data, halves, header, table, ends, flaws,
        *where, layout.last_run, layout.codes_at, layout.escapes_at, escapes, num_warps=_WARPS, **paged,
    )  # fmt: skip
    return flaws


def _unit(rows: TokenRows) -> int:
    """Values that are moved as one number: two if none of a pair can be elsewhere, or not where a word begins."""
    tensor = rows.tensor
    odd = rows.channels % 2 or tensor.shape[-1] % 2 or rows.page_stride % 2 or tensor.storage_offset() % 2
    return 1 if odd else 2


def _in_units(rows: TokenRows, unit: int) -> tuple[Tensor, tuple[int, int, int], dict[str, int]]:
    """How kernels find values: the tensor, the strides and counts that they take, and their constant."""
    places = rows.page_stride // unit, rows.first * rows.channels // unit, rows.values
    tensor = rows.tensor.view(torch.int32 if unit == 2 else torch.int16)
    return tensor, places, {"PAGE_UNITS": rows.page_tokens * rows.channels // unit}

"""The lossless format in Triton, one program for a block: bytes are read once, and none is trusted."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import HEADER_BYTES, ExactLayout
from prfaas_kernels.codec import exact
from prfaas_kernels.codec.checks import aligned, check_bytes, check_exact
from prfaas_kernels.codec.token_rows import PageSpan, TokenRows
from prfaas_kernels.codec.triton_exact_words import (
    BLOCK,
    EXPONENTS,
    HEADER,
    NUM_LANES,
    PACKED_WORD,
    PAIRS,
    RUN,
    WARPS,
    below,
    block_pages,
    columns_of,
    first_mark,
    four_lanes,
    in_units,
    lane_units,
    place_of,
    rank_marks,
    unpack,
)
from prfaas_kernels.launch import launch

_CODES = tl.constexpr(exact.CODES)
_SIGNS = tl.constexpr(-0x7FFF8000)  # 0x80008000


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
    kept = unpack(kept)
    words = ((kept << 8) & _SIGNS) | (kept & 0x007F007F) | exponents
    offset, there = lane_units(lane, run, left, FULL, 1)
    place = place_of(offset, there, pages, page_ids_ptr, page_stride, 1, PAGE_UNITS)
    # Stored as words, columns would have to change threads in every round of the loop over escapes.
    tl.store(out_ptr + place, columns_of(words.to(tl.int16), (words >> 16).to(tl.int16)), mask=there)


@triton.jit
def _decode_block(
    out_ptr, page_ids_ptr, data_ptr, halves_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
    page_stride, first, values, run, codes_at, escapes_at, escapes, FULL: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    wide = block.to(tl.int64)
    pair, half = tl.arange(0, PAIRS), run // 2
    stored = tl.full([PAIRS], 1, tl.int1) if FULL else pair < half
    planes_ptr = halves_ptr + codes_at // 2 + wide * (3 * PAIRS) + pair
    low = unpack(tl.load(planes_ptr, mask=stored, other=0))
    middle = unpack(tl.load(planes_ptr + half, mask=stored, other=0))
    high = unpack(tl.load(planes_ptr + 2 * half, mask=stored, other=0))
    low |= (middle & 0x000F000F) << 8
    high = (high << 4) | ((middle >> 4) & 0x000F000F)
    a, a_marks = _widened(low)
    b, b_marks = _widened(low >> 6)
    c, c_marks = _widened(high)
    d, d_marks = _widened(high >> 6)
    ranked, count, most = rank_marks(a_marks, b_marks, c_marks, d_marks)
    entry = tl.load(table_ptr + block)
    top = (entry >> 16) & 0xFF
    expected = entry & 0xFFFF
    flawed = count != expected
    if block == 0:
        header = (tl.load(header_ptr) != PACKED_WORD) | (tl.load(header_ptr + 1) != values)
        header |= (tl.load(header_ptr + 2) != escapes) | (tl.load(header_ptr + 3) != 0)
        flawed |= header | (tl.load(ends_ptr + tl.num_programs(0) - 1) != escapes)
    tl.store(flaws_ptr, 1, mask=flawed)
    before = tl.load(ends_ptr + block) - expected
    room = tl.minimum(tl.maximum(escapes - before, 0), BLOCK).to(tl.int32)
    low_even, low_odd = four_lanes(below(top, a), below(top, b))
    high_even, high_odd = four_lanes(below(top, c), below(top, d))
    low, high = columns_of(low_even, low_odd), columns_of(high_even, high_odd)
    marks, rank = ranked & 0xFF, ranked >> 8
    escape_ptr = data_ptr + escapes_at + before + rank
    for i in range(most):
        there = (marks != 0) & (rank + i < room)
        in_low, shift, marks = first_mark(marks)
        escape = tl.load(escape_ptr + i, mask=there, other=0).to(tl.int32)
        # What stands there now is top - 7.
        change = tl.where(there, (escape ^ ((top - _CODES) & 0xFF)) << shift, 0)
        low ^= tl.where(in_low, change, 0)
        high ^= tl.where(in_low, 0, change)
    low_even, low_odd = tl.split(tl.reshape(low, [PAIRS, 2]))
    high_even, high_odd = tl.split(tl.reshape(high, [PAIRS, 2]))
    first_lanes, second_lanes = four_lanes(low_even, low_odd)
    third_lanes, fourth_lanes = four_lanes(high_even, high_odd)
    exponents = first_lanes, second_lanes, third_lanes, fourth_lanes
    pages = block_pages(block, values, page_ids_ptr, page_stride, first, 1, PAGE_UNITS)
    left = values - block * BLOCK
    kept_ptr = halves_ptr + HEADER // 2 + wide * (BLOCK // 2) + pair
    for lane in tl.static_range(NUM_LANES):
        four = exponents[lane // 2]
        at_place = (four << 7) & EXPONENTS if lane % 2 == 0 else (four >> 1) & EXPONENTS
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
            page_stride, first, values, RUN, codes_at, escapes_at, escapes, True, PAGE_UNITS,
        )  # fmt: skip
    else:
        _decode_block(
            out_ptr, page_ids_ptr, data_ptr, halves_ptr, header_ptr, table_ptr, ends_ptr, flaws_ptr,
            page_stride, first, values, last_run, codes_at, escapes_at, escapes, False, PAGE_UNITS,
        )  # fmt: skip


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
    units, where, paged = in_units(rows, 1)
    launch(
        _decode_exact_kernel, (layout.blocks,), units, rows.page_ids, data, halves, header, table, ends, flaws,
        *where, layout.last_run, layout.codes_at, layout.escapes_at, escapes, num_warps=WARPS, **paged,
    )  # fmt: skip
    return flaws

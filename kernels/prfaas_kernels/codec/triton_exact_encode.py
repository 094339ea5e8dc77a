"""The lossless format in Triton, one program for a block: values are read once."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import BLOCK_VALUES, HEADER_BYTES, ExactLayout
from prfaas_kernels.codec import exact
from prfaas_kernels.codec.checks import check_exact
from prfaas_kernels.codec.token_rows import PageSpan, TokenRows
from prfaas_kernels.codec.triton_exact_words import (
    BLOCK,
    HEADER,
    NUM_LANES,
    PACKED_WORD,
    PAIRS,
    RUN,
    WARPS,
    block_pages,
    choose_top,
    coded_lanes,
    columns_of,
    exponents_of,
    first_mark,
    four_lanes,
    in_units,
    load_lane,
    pack,
    place_of,
    rank_marks,
    unit_of,
)
from prfaas_kernels.launch import launch

_RAW_WORD = tl.constexpr(exact.MAGIC | exact.VERSION << 16 | exact.RAW << 24)


@triton.jit
def _encode_lanes(
    x_ptr, kept_ptr, stored, lane, run, left, pages, page_ids_ptr, page_stride,
    FULL: tl.constexpr, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """Writes signs and mantissas of a lane and the next; their exponents, and all ones where there are any."""
    even, has_even = load_lane(x_ptr, lane, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS)
    odd, has_odd = load_lane(x_ptr, lane + 1, run, left, pages, page_ids_ptr, page_stride, FULL, UNIT, PAGE_UNITS)
    kept = ((even >> 8) & 0x00800080) | (even & 0x007F007F)
    tl.store(kept_ptr + lane * (run // 2), pack(kept), mask=stored)
    kept = ((odd >> 8) & 0x00800080) | (odd & 0x007F007F)
    tl.store(kept_ptr + (lane + 1) * (run // 2), pack(kept), mask=stored)
    return exponents_of(even, odd), exponents_of(has_even, has_odd)


@triton.jit
def _encode_block(
    x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, run, codes_at,
    FULL: tl.constexpr, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    wide = block.to(tl.int64)
    left = values - block * BLOCK
    pages = block_pages(block, values, page_ids_ptr, page_stride, first, UNIT, PAGE_UNITS)
    column, pair, half = tl.arange(0, RUN), tl.arange(0, PAIRS), run // 2
    stored = tl.full([PAIRS], 1, tl.int1) if FULL else pair < half
    kept_ptr = data_ptr + HEADER // 2 + wide * (BLOCK // 2) + pair
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
    top = choose_top(a, b, c, d)
    a_codes, a_marks = coded_lanes(top, a, a_present)
    b_codes, b_marks = coded_lanes(top, b, b_present)
    c_codes, c_marks = coded_lanes(top, c, c_present)
    d_codes, d_marks = coded_lanes(top, d, d_present)
    low, high = a_codes | (b_codes << 6), c_codes | (d_codes << 6)
    planes_ptr = data_ptr + codes_at // 2 + wide * (3 * PAIRS) + pair
    tl.store(planes_ptr, pack(low & 0x00FF00FF), mask=stored)
    middle = ((low >> 8) & 0x000F000F) | ((high & 0x000F000F) << 4)
    tl.store(planes_ptr + half, pack(middle), mask=stored)
    tl.store(planes_ptr + 2 * half, pack((high >> 4) & 0x00FF00FF), mask=stored)

    ranked, count, most = rank_marks(a_marks, b_marks, c_marks, d_marks)
    tl.store(table_ptr + block, count | (top << 16))
    low_even, low_odd = four_lanes(a, b)
    high_even, high_odd = four_lanes(c, d)
    # Scattered stores want one column to a thread: gathering moves three tensors there, not each that they lead to.
    ranked = tl.gather(ranked, column, 0)
    low = tl.gather(columns_of(low_even, low_odd), column, 0)
    high = tl.gather(columns_of(high_even, high_odd), column, 0)
    marks, escape_ptr = ranked & 0xFF, scratch_ptr + wide * BLOCK + (ranked >> 8)
    for i in range(most):
        escaped = marks != 0
        in_low, shift, marks = first_mark(marks)
        tl.store(escape_ptr + i, (tl.where(in_low, low, high) >> shift).to(tl.uint8), mask=escaped)


@triton.jit(do_not_specialize=["page_ids_ptr", "values"])
def _encode_exact_kernel(
    x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, last_run, codes_at,
    UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """All but header and escapes; those of a block go to its place in `scratch_ptr`."""
    if tl.program_id(0) < tl.num_programs(0) - 1:
        _encode_block(
            x_ptr, page_ids_ptr, data_ptr, table_ptr, scratch_ptr, page_stride, first, values, RUN, codes_at,
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
    wide = block.to(tl.int64) * BLOCK
    column = tl.arange(0, RUN)
    escapes = tl.load(ends_ptr + tl.num_programs(0) - 1)
    packed = escapes < room
    if block == 0:
        tl.store(header_ptr, tl.where(packed, PACKED_WORD, _RAW_WORD))
        tl.store(header_ptr + 1, values)
        tl.store(header_ptr + 2, tl.where(packed, escapes, 0).to(tl.int32))
        tl.store(header_ptr + 3, 0)
        tl.store(length_ptr, escapes_at + tl.minimum(escapes, room))
    if packed:
        start = tl.load(ends_ptr + block - 1, mask=block > 0, other=0)
        count = (tl.load(ends_ptr + block) - start).to(tl.int32)
        for at in range(0, count, RUN):
            there = at + column < count
            escape = tl.load(scratch_ptr + wide + at + column, mask=there, other=0)
            tl.store(data_ptr + escapes_at + start + at + column, escape, mask=there)
    else:
        left = values - block * BLOCK
        pages = block_pages(block, values, page_ids_ptr, page_stride, first, 1, PAGE_UNITS)
        for lane in range(NUM_LANES):
            offset = lane * RUN + column
            place = place_of(offset, offset < left, pages, page_ids_ptr, page_stride, 1, PAGE_UNITS)
            bits = tl.load(x_ptr + place, mask=offset < left, other=0)
            tl.store(raw_ptr + wide + offset, bits, mask=offset < left)


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
    units, where, paged = in_units(rows, unit_of(rows))
    launch(
        _encode_exact_kernel, (layout.blocks,), units, rows.page_ids, data.view(torch.int16), table, scratch,
        *where, layout.last_run, layout.codes_at, num_warps=WARPS, UNIT=unit_of(rows), **paged,
    )  # fmt: skip
    bits, where, paged = in_units(rows, 1)
    ends = (table & 0xFFFF).cumsum(0)
    parts = data[:HEADER_BYTES].view(torch.int32), data[HEADER_BYTES:].view(torch.int16)
    launch(
        _finish_exact_kernel, (layout.blocks,), bits, rows.page_ids, data, *parts, scratch, ends, length,
        *where, layout.escapes_at, layout.raw_bytes - layout.escapes_at, num_warps=WARPS, **paged,
    )  # fmt: skip
    return data, length

"""What both ways of the lossless format in Triton share: where values are, and bytes that lie side by side in words."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import BLOCK_VALUES, HEADER_BYTES, LANES, RUN_VALUES
from prfaas_kernels.codec import exact
from prfaas_kernels.codec.token_rows import TokenRows

_ABOVE_MEAN = tl.constexpr(exact.ABOVE_MEAN)
_HIGH_BITS = tl.constexpr(-0x7F7F7F80)  # 0x80808080 in 32 bits
_ODD_BYTES = tl.constexpr(-0x00FF0100)  # 0xFF00FF00
EXPONENTS = tl.constexpr(0x7F807F80)
NUM_LANES = tl.constexpr(LANES)
BLOCK = tl.constexpr(BLOCK_VALUES)
RUN = tl.constexpr(RUN_VALUES)
PAIRS = tl.constexpr(RUN_VALUES // 2)  # of columns
HEADER = tl.constexpr(HEADER_BYTES)
PACKED_WORD = tl.constexpr(exact.MAGIC | exact.VERSION << 16 | exact.PACKED << 24)
WARPS = 2  # so that what a block costs whoever works on it is shared out to few; with one, registers spill


@triton.jit
def block_pages(block, values, page_ids_ptr, page_stride, first, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr):
    """What `place_of` takes of a block: units before it in its first page, and what leads to that and the next page."""
    base = block * (BLOCK // UNIT)
    if PAGE_UNITS == 0:
        return base, block.to(tl.int64), block.to(tl.int64)
    start = first + base
    if PAGE_UNITS < BLOCK // UNIT:
        return start, block.to(tl.int64), block.to(tl.int64)
    low = start // PAGE_UNITS
    high = (first + tl.minimum(base + BLOCK // UNIT, values // UNIT) - 1) // PAGE_UNITS
    near = tl.load(page_ids_ptr + low) * page_stride
    return start - low * PAGE_UNITS, near, tl.load(page_ids_ptr + high) * page_stride - PAGE_UNITS


@triton.jit
def place_of(offset, there, pages, page_ids_ptr, page_stride, UNIT: tl.constexpr, PAGE_UNITS: tl.constexpr):
    """Units, of UNIT values, before those of a block that are `there`."""
    skip, near, far = pages
    within = skip + offset
    if PAGE_UNITS == 0:
        return within
    if PAGE_UNITS < BLOCK // UNIT:
        page = tl.load(page_ids_ptr + within // PAGE_UNITS, mask=there, other=0)
        return page * page_stride + within % PAGE_UNITS
    return tl.where(within < PAGE_UNITS, near, far) + within  # a block lies in two pages at most


@triton.jit
def _words(halves):
    """16-bit values two to a word: those of columns 2p (low) and 2p + 1. Words of two lanes make one of exponents."""
    even, odd = tl.split(tl.reshape(halves, [PAIRS, 2]))
    return (even.to(tl.int32) & 0xFFFF) | (odd.to(tl.int32) << 16)


@triton.jit
def columns_of(even, odd):
    """[RUN] from what there is of columns 2p and of columns 2p + 1."""
    return tl.reshape(tl.join(even, odd), [RUN])


@triton.jit
def exponents_of(even, odd):
    """Of an even lane's and the next lane's words: bytes of column 2p, even and odd lane, then of column 2p + 1."""
    return ((even >> 7) & 0x00FF00FF) | ((odd << 1) & _ODD_BYTES)


@triton.jit
def four_lanes(first, second):
    """The exponents of two pairs of lanes by column: those of column 2p, and those of column 2p + 1."""
    return (first & 0xFFFF) | (second << 16), ((first >> 16) & 0xFFFF) | (second & -0x10000)


@triton.jit
def below(top, four):
    """`top` less each byte of four, each modulo 256."""
    tops = top * 0x01010101
    return ((tops | _HIGH_BITS) - (four & 0x7F7F7F7F)) ^ ((tops ^ ~four) & _HIGH_BITS)


@triton.jit
def _summed(four):
    """Sums of the low two and of the high two bytes, as halves; and a 1 in each byte that is not 0."""
    marks = ((((four & 0x7F7F7F7F) + 0x7F7F7F7F) | four) >> 7) & 0x01010101
    return (four & 0x00FF00FF) + ((four >> 8) & 0x00FF00FF), marks


@triton.jit
def choose_top(a, b, c, d):
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
def coded_lanes(top, four, present):
    """Codes of exponents, two lanes as 6 bits of each half, and a 1 in the byte of each that is an escape."""
    four = below(top, four)
    marks = ((((four & 0x7F7F7F7F) + 0x79797979) | four) >> 7) & 0x01010101 & present
    four = (four | marks * 7) & 0x07070707 & present
    return (four | (four >> 5)) & 0x003F003F, marks


@triton.jit
def pack(halves):
    """The low byte of each half, side by side."""
    return (halves | (halves >> 8)).to(tl.int16)


@triton.jit
def unpack(two):
    """Two bytes as the low bytes of the halves of a word."""
    word = two.to(tl.int32)
    return (word & 0xFF) | ((word & 0xFF00) << 8)


@triton.jit
def rank_marks(a, b, c, d):
    """From marks of lanes two by two: by column 8 marks and, from bit 8 on, those before it; its sum and its most."""
    counts = a + b + c + d
    counts = (counts & 0x00FF00FF) + ((counts >> 8) & 0x00FF00FF)
    even, odd = counts & 0xFFFF, counts >> 16
    both = even + odd
    rank = tl.cumsum(both, 0) - both
    marks = a | (b << 2) | (c << 4) | (d << 6)
    marks = (marks | (marks >> 7)) & 0x00FF00FF
    ranked = columns_of((marks & 0xFF) | (rank << 8), (marks >> 16) | ((rank + even) << 8))
    return ranked, tl.sum(both, 0), tl.max(tl.maximum(even, odd), 0)


@triton.jit
def first_mark(marks):
    """Whether a column's first mark is in its first four lanes, bits before that lane's byte, and the other marks."""
    first = marks & -marks
    return first < 16, ((first.to(tl.float32).to(tl.int32, bitcast=True) >> 20) + 8) & 24, marks ^ first


@triton.jit
def lane_units(lane, run, left, FULL: tl.constexpr, UNIT: tl.constexpr):
    """Units of a lane by their place in the block, and which of them there are."""
    unit, units = tl.arange(0, RUN // UNIT), run // UNIT
    offset = lane * units + unit
    there = tl.full([RUN // UNIT], 1, tl.int1) if FULL else (unit < units) & (offset < left // UNIT)
    return offset, there


@triton.jit
def load_lane(x_ptr, lane, run, left, pages, page_ids_ptr, page_stride, FULL: tl.constexpr, UNIT: tl.constexpr,
    PAGE_UNITS: tl.constexpr,
):  # fmt: skip
    """A lane's words; in the last block also where there are any, as exponents of all ones."""
    offset, there = lane_units(lane, run, left, FULL, UNIT)
    place = place_of(offset, there, pages, page_ids_ptr, page_stride, UNIT, PAGE_UNITS)
    words, present = tl.load(x_ptr + place, mask=there, other=0), tl.where(there, EXPONENTS, 0)
    if UNIT == 1:
        words, present = _words(words), _words(present & 0xFFFF)
    return words, present


def unit_of(rows: TokenRows) -> int:
    """Values that are moved as one number: two if none of a pair can be elsewhere, or not where a word begins."""
    tensor = rows.tensor
    odd = rows.channels % 2 or tensor.shape[-1] % 2 or rows.page_stride % 2 or tensor.storage_offset() % 2
    return 1 if odd else 2


def in_units(rows: TokenRows, unit: int) -> tuple[Tensor, tuple[int, int, int], dict[str, int]]:
    """How kernels find values: the tensor, the strides and counts that they take, and their constant."""
    places = rows.page_stride // unit, rows.first * rows.channels // unit, rows.values
    tensor = rows.tensor.view(torch.int32 if unit == 2 else torch.int16)
    return tensor, places, {"PAGE_UNITS": rows.page_tokens * rows.channels // unit}

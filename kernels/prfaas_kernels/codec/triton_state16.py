"""States in 16 bits in Triton: one program holds a row, so that it reads it once."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.sizes import state16_bytes
from prfaas_kernels.codec.checks import aligned, check_size
from prfaas_kernels.codec.state_span import StateSpan, StateValues
from prfaas_kernels.launch import block, launch

_MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_INFINITY = tl.constexpr(0x7F800000)
_MOST_VALUES = 32768  # of a row, which one program holds in registers
_WARP_VALUES = 2048
_DECODED = 4096  # values of a row that a program decodes


@triton.jit
def _row_start(row, offsets_ptr, width, PLACED: tl.constexpr):
    if PLACED:
        return tl.multiple_of(tl.load(offsets_ptr + row) // 4, 16)
    return row.to(tl.int64) * width


@triton.jit(do_not_specialize=["offsets_ptr"])
def _encode_state16_kernel(
    x_ptr, offsets_ptr, units_ptr, data_ptr, n, width, PLACED: tl.constexpr, WIDTH: tl.constexpr
):
    row = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    start = _row_start(row, offsets_ptr, width, PLACED)
    x = tl.load(x_ptr + start + column, mask=column < width, other=0.0)
    peak = tl.max(x.to(tl.int32, bitcast=True) & _MAGNITUDE, axis=0)
    finite = peak < _INFINITY
    shift = tl.minimum(141 - (peak >> 23), 126)
    unit = tl.where(finite, ((127 - shift) << 23).to(tl.float32, bitcast=True), float("nan"))
    scaled = tl.where(finite, x * ((127 + shift) << 23).to(tl.float32, bitcast=True), 0.0)
    tl.store(units_ptr + row, unit)
    halves_ptr = data_ptr + 2 * n  # behind a unit for each row
    tl.store(halves_ptr + row.to(tl.int64) * width + column, scaled.to(tl.float16), mask=column < width)


@triton.jit(do_not_specialize=["offsets_ptr"])
def _decode_state16_kernel(
    out_ptr, offsets_ptr, units_ptr, data_ptr, n, width, PLACED: tl.constexpr, WIDTH: tl.constexpr
):
    row = tl.program_id(0)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    start = _row_start(row, offsets_ptr, width, PLACED)
    halves_ptr = data_ptr + 2 * n  # behind a unit for each row
    halves = tl.load(halves_ptr + row.to(tl.int64) * width + column, mask=column < width, other=0.0)
    out = halves.to(tl.float32) * tl.load(units_ptr + row)
    tl.store(out_ptr + start + column, out, mask=column < width)


def encode_state16(values: Tensor, span: StateSpan | None = None) -> tuple[Tensor, Tensor]:
    """As `cpu.encode_state16`. Raises CodecError if a row has more than 32,768 values."""
    rows = StateValues.of(values, span)
    if rows.width > _MOST_VALUES:
        raise CodecError(f"a row of a state has at most {_MOST_VALUES} values on a GPU, not {rows.width}")
    data = torch.empty(state16_bytes(rows.n, (rows.width,)), dtype=torch.uint8, device=values.device)
    units, halves = data[: 4 * rows.n].view(torch.float32), data.view(torch.float16)
    wide = block(rows.width)
    warps = min(16, max(1, wide // _WARP_VALUES))
    placed = rows.offsets is not None
    floats = values.view(torch.float32)
    launch(
        _encode_state16_kernel, (rows.n,), floats, rows.offsets, units, halves, rows.n, rows.width,
        num_warps=warps, PLACED=placed, WIDTH=wide,
    )  # fmt: skip
    return data, ~units.isnan().any()


def decode_state16(data: Tensor, out: Tensor, span: StateSpan | None = None) -> None:
    """As `cpu.decode_state16`."""
    rows = StateValues.of(out, span)
    check_size(data, state16_bytes(rows.n, (rows.width,)))
    data = aligned(data)
    units, halves = data[: 4 * rows.n].view(torch.float32), data.view(torch.float16)
    wide = min(_DECODED, block(rows.width))
    grid = (rows.n, triton.cdiv(rows.width, wide))
    floats, placed = out.view(torch.float32), rows.offsets is not None
    launch(
        _decode_state16_kernel, grid, floats, rows.offsets, units, halves, rows.n, rows.width, PLACED=placed, WIDTH=wide
    )

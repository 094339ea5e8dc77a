"""Log decays from what a layer projects; does not know which rule they are for."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import launch

_ELEMENTS = 4096  # of a program


@triton.jit
def softplus(x):
    """log(1 + e^x) in fp32, exact to the last bits where e^x is small."""
    e = tl.exp(-tl.abs(x))
    u = 1.0 + e
    return tl.maximum(x, 0.0) + tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit(do_not_specialize=["rows"])
def _log_decay_kernel(
    x_ptr, a_log_ptr, dt_bias_ptr, out_ptr, rows, columns, per_head, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    wide = column < columns
    there = (row < rows)[:, None] & wide[None, :]
    row = row.to(tl.int64)[:, None]
    bias = tl.load(dt_bias_ptr + column, mask=wide, other=0.0).to(tl.float32)
    rate = tl.exp(tl.load(a_log_ptr + column // per_head, mask=wide, other=0.0).to(tl.float32))
    x = tl.load(x_ptr + row * stride + column[None, :], mask=there, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * columns + column[None, :], -rate[None, :] * softplus(x + bias[None, :]), mask=there)


def log_decay(x: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """`-exp(a_log) * softplus(x + dt_bias)` for `x` [T, D], `a_log` [H], `dt_bias` [D], D a multiple of H: [T, D]."""
    rows, columns = x.shape
    assert x.stride(1) == 1
    out = torch.empty(rows, columns, dtype=torch.float32, device=x.device)
    wide = min(512, triton.next_power_of_2(columns))
    tall = _ELEMENTS // wide
    launch(
        _log_decay_kernel,
        (triton.cdiv(rows, tall), triton.cdiv(columns, wide)),
        x,
        a_log,
        dt_bias,
        out,
        rows,
        columns,
        columns // a_log.shape[0],
        x.stride(0),
        ROWS=tall,
        COLUMNS=wide,
    )
    return out

"""Norms and gates by the compiled kernels."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.native import NOTHING, call, numbers, rows

GATES = {"sigmoid": 1, "silu": 2}

_NORM = Struct("5q10qfi")  # struct Norm of elementwise.cpp
_SILU_MUL = Struct("3q4q")  # struct SiluMul


def norm(
    x: Tensor,
    weight: Tensor,
    eps: float,
    dtype: torch.dtype,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
    gate_kind: int = 0,
) -> Tensor:
    """Normalises `x` [..., D], after adding it to a contiguous `residual` in place, and gates it: [..., D]."""
    flat, gates = rows(x), None if gate is None else rows(gate)
    out = torch.empty(x.shape, dtype=dtype)
    (num_rows, width), size = flat.shape, weight.shape[0]
    arguments = _NORM.pack(
        num_rows,
        width // size,
        size,
        flat.stride(0),
        0 if gates is None else gates.stride(0),
        *numbers(flat),
        *(NOTHING if residual is None else numbers(residual)),
        *numbers(weight),
        *(NOTHING if gates is None else numbers(gates)),
        *numbers(out),
        eps,
        gate_kind,
    )
    call("norm", arguments)
    return out


def silu_mul(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of `gate_up` [T, 2I] with dense rows, gate first: [T, I]."""
    tokens, wide = gate_up.shape
    out = torch.empty(tokens, wide // 2, dtype=gate_up.dtype)
    call("silu_mul", _SILU_MUL.pack(tokens, wide // 2, gate_up.stride(0), *numbers(gate_up), *numbers(out)))
    return out

"""One new token of each of some sequences over the rings of a sliding window."""

import torch
from torch import Tensor

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.gqa import gqa_reference
from prfaas_kernels.state_rows import StateRows
from prfaas_kernels.window_attention import window_decode

_SEQUENCES, _WINDOW, _HEADS, _GROUPS, _KEY, _VALUE = 128, 128, 64, 8, 192, 128  # MiMo-V2-Flash
_SCALE = _KEY**-0.5


def _rings(sequences: int, groups: int, size: int, dtype: torch.dtype, device: torch.device) -> StateRows:
    rows, row_bytes = sequences * (_WINDOW - 1), groups * size * dtype.itemsize
    arena = torch.randn(rows, groups * size, device=device).to(dtype).view(torch.uint8).flatten()
    places = (torch.randperm(rows) * row_bytes).view(sequences, _WINDOW - 1).to(device)
    return StateRows(arena, places, places, ((0, groups * size),), (groups, size), dtype)


def _new(heads: int, groups: int, sequences: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    shapes = ((sequences, heads, _KEY), (sequences, groups, _KEY), (sequences, groups, _VALUE))
    q, k, v = (torch.randn(shape, device=device).to(dtype) for shape in shapes)
    return q, k, v


def _mimo(device: torch.device) -> Run:
    dtype = torch.bfloat16
    q, k, v = _new(_HEADS, _GROUPS, _SEQUENCES, dtype, device)
    rings = (_rings(_SEQUENCES, _GROUPS, size, dtype, device) for size in (_KEY, _VALUE))
    k_rings, v_rings = rings
    lengths = torch.full((_SEQUENCES,), 5000).to(device)
    sinks = torch.zeros(_HEADS, device=device)
    return lambda: window_decode(q, k, v, k_rings, v_rings, lengths, _SCALE, sinks=sinks)


CASES = (
    Case(
        "window_attention",
        "decode, MiMo-V2-Flash, 128 sequences",
        _mimo,
        2 * _SEQUENCES * ((_WINDOW + 1) * _GROUPS + _HEADS) * (_KEY + _VALUE),
        2 * _SEQUENCES * _WINDOW * _HEADS * (_KEY + _VALUE),
    ),
)


def _cpu_case() -> CpuCase:
    device = torch.device("cpu")
    q, k, v = _new(4, 2, 1, torch.float32, device)
    k_rings, v_rings = (_rings(1, 2, size, torch.float32, device) for size in (_KEY, _VALUE))
    keys, values = torch.cat([k_rings.load_all()[0], k]), torch.cat([v_rings.load_all()[0], v])
    lengths = torch.full((1,), 1 + 127 * 3)
    return CpuCase(
        "window_attention",
        "decode, 1 sequence, fp32",
        lambda: window_decode(q, k, v, k_rings, v_rings, lengths, _SCALE),
        lambda: gqa_reference(q, keys, values, _SCALE),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)

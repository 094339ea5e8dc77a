"""Prefill with a sliding window in the sizes of MiMo."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from prfaas_kernels.window_attention import window_prefill
from prfaas_kernels.window_attention.reference import window_prefill_reference

_TOKENS, _HEADS, _GROUPS, _KEY, _VALUE, _WINDOW = 8192, 64, 8, 192, 128, 128


def _rings(groups: int, size: int, window: int, dtype: torch.dtype, device: torch.device) -> StateRows:
    """Of one sequence, its rows in some order."""
    row_bytes = groups * size * dtype.itemsize
    arena = torch.zeros((window - 1) * row_bytes, dtype=torch.uint8, device=device)
    rows = (torch.randperm(window - 1)[None] * row_bytes).to(device)
    return StateRows(arena, rows, rows, ((0, groups * size),), (groups, size), dtype)


def _window(device: torch.device) -> Run:
    new: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    q, k, v = (torch.randn(_TOKENS, *x, **new) for x in ((_HEADS, _KEY), (_GROUPS, _KEY), (_GROUPS, _VALUE)))
    k_rings, v_rings = (_rings(_GROUPS, size, _WINDOW, torch.bfloat16, device) for size in (_KEY, _VALUE))
    spans, sinks = Spans.packed((_TOKENS,), (_TOKENS,), device), torch.randn(_HEADS, **new)
    return lambda: window_prefill(q, k, v, k_rings, v_rings, spans, _KEY**-0.5, _WINDOW, sinks=sinks)


CASES = (
    Case(
        "window_attention",
        "prefill, MiMo, 8K tokens",
        _window,
        2 * _TOKENS * (_HEADS + _GROUPS) * (_KEY + _VALUE),
        operations=2 * _TOKENS * _WINDOW * _HEADS * (_KEY + _VALUE),
    ),
)


def _cpu_case() -> CpuCase:
    tokens, window, device = 400, 64, torch.device("cpu")
    q, k, v = (torch.randn(tokens, heads, 64) for heads in (8, 2, 2))
    spans, scale = Spans.packed((tokens,), (0,)), 64**-0.5

    def run() -> Tensor:
        rings = [_rings(2, 64, window, torch.float32, device) for _ in range(2)]
        return window_prefill(q, k, v, *rings, spans, scale, window)

    return CpuCase(
        "window_attention",
        "prefill, 400 tokens, a window of 64, fp32",
        run,
        lambda: window_prefill_reference(q, k, v, scale, window),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)

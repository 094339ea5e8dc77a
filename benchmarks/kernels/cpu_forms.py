"""The CPU's forms of ops beside their references: how far they are from them, and how long both take."""

import time
from collections.abc import Callable, Collection
from statistics import median
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.kernels.case import CpuCase
from benchmarks.kernels.discovery import all_cpu_cases
from benchmarks.report import progress

Row = dict[str, Any]

_RUNS, _BUDGET_S = 20, 0.5


def measure_all(ops: Collection[str] = ()) -> list[Row]:
    """A row for every case."""
    with torch.inference_mode():
        return [measure(case) for case in track(all_cpu_cases(ops), "the CPU's forms", console=progress)]


def measure(case: CpuCase) -> Row:
    """Not ok if the error ratio is above the tolerance, or if there is something that is no finite number."""
    error = error_ratio(case.run(), case.reference())
    return {
        "op": case.op,
        "case": case.name,
        "error_ratio": error,
        "tolerance": case.tolerance,
        "ok": error <= case.tolerance,
        "ms": _median_ms(case.run),
        "reference_ms": _median_ms(case.reference),
    }


def error_ratio(actual: Tensor, expected: Tensor) -> float:
    """RMS of the difference over RMS of what is expected; infinite if `actual` has a NaN or infinity."""
    assert actual.shape == expected.shape
    if not actual.isfinite().all():
        return float("inf")
    difference = (actual.double() - expected.double()).square().mean().sqrt()
    return float(difference / expected.double().square().mean().sqrt().clamp_min(1e-12))


def _median_ms(run: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < 3 or (len(times) < _RUNS and sum(times) < 1e3 * _BUDGET_S):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return median(times)

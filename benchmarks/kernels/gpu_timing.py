"""Times calls on a GPU, and what the GPU itself can do: copies and one large product. Knows no op."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

_FEWEST, _MOST = 10, 200
_FLUSHED_BYTES = 2**30  # more than any level-2 cache
_FLUSH_MS = 0.1  # no GPU writes as much in less
_MOST_FLUSHES = 50
_COPIED_BYTES = 2**31
_SIDE = 8192


@dataclass(frozen=True, slots=True)
class GpuRates:
    """What this GPU reached in this run: floors are made of it."""

    name: str
    capability: int
    """E.g. 90 for an H200."""
    copy_bytes_s: float
    """Read and written, of a copy from its memory to its memory."""
    matrix_op_s: float
    """Of a bf16 product of 8192 x 8192 matrices."""


def gpu_rates() -> GpuRates:
    """Takes about a second."""
    device = torch.device("cuda")
    source, target = (torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    copy_ms = median_ms(lambda: target.copy_(source), device)
    a, b = (torch.randn(_SIDE, _SIDE, dtype=torch.bfloat16, device=device) for _ in range(2))
    product_ms = median_ms(lambda: a @ b, device)
    major, minor = torch.cuda.get_device_capability(device)
    name, capability = torch.cuda.get_device_name(device), 10 * major + minor
    return GpuRates(name, capability, 2e3 * _COPIED_BYTES / copy_ms, 2e3 * _SIDE**3 / product_ms)


def median_ms(run: Callable[[], object], device: torch.device, budget_s: float = 0.5) -> float:
    """Median of 10 to 200 calls after a few to warm up, each with nothing of it in the level-2 cache."""
    flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device=device)
    host_ms = min(_host_ms(run, device) for _ in range(3))
    flushes = 1 + min(_MOST_FLUSHES, math.ceil(host_ms / _FLUSH_MS))
    once_ms = max(flushes * _FLUSH_MS, *_timed_ms([run], flushed, flushes))
    count = round(min(_MOST, max(_FEWEST, 1e3 * budget_s / once_ms)))
    return median(_timed_ms([run] * count, flushed, flushes))


def _host_ms(run: Callable[[], object], device: torch.device) -> float:
    """How long the host takes to start what the GPU then does."""
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


def _timed_ms(runs: list[Callable[[], object]], flushed: torch.Tensor, flushes: int) -> list[float]:
    """The GPU's own clock around each. It flushes its cache for so long that the host has started all that comes."""
    events = [(_event(), _event()) for _ in runs]
    for run, (begin, end) in zip(runs, events, strict=True):
        for _ in range(flushes):
            flushed.zero_()
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize(flushed.device)
    return [begin.elapsed_time(end) for begin, end in events]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

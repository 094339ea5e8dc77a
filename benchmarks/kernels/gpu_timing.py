"""Times calls on a GPU, and what the GPU itself can do: copies and one large product. Knows no op."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

_FEWEST, _MOST = 10, 200
_FLUSHED_BYTES = 2**28  # more than any level-2 cache
_COPIED_BYTES = 2**31
_SIDE = 8192


@dataclass(frozen=True, slots=True)
class GpuRates:
    """What this GPU reached in this run: floors are made of it."""

    name: str
    copy_bytes_s: float
    """Read and written, of a copy from its memory to its memory."""
    matrix_op_s: float
    """Of a bf16 product of 8192 x 8192 matrices."""


def gpu_rates(device: torch.device) -> GpuRates:
    """Takes about a second."""
    source, target = (torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    copy_ms = median_ms(lambda: target.copy_(source), device)
    a, b = (torch.randn(_SIDE, _SIDE, dtype=torch.bfloat16, device=device) for _ in range(2))
    product_ms = median_ms(lambda: a @ b, device)
    name = torch.cuda.get_device_name(device)
    return GpuRates(name, 2e3 * _COPIED_BYTES / copy_ms, 2e3 * _SIDE**3 / product_ms)


def median_ms(run: Callable[[], object], device: torch.device, budget_s: float = 0.5) -> float:
    """Median of 10 to 200 calls after a few to warm up, each with nothing of it in the level-2 cache."""
    flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device=device)
    for _ in range(3):
        run()
    once_ms = max(_timed_ms([run], flushed))
    count = round(min(_MOST, max(_FEWEST, 1e3 * budget_s / max(once_ms, 0.05))))
    return median(_timed_ms([run] * count, flushed))


def _timed_ms(runs: list[Callable[[], object]], flushed: torch.Tensor) -> list[float]:
    """The GPU's own clock around each; the cache is flushed before, while the host starts what comes."""
    events = [(_event(), _event()) for _ in runs]
    for run, (begin, end) in zip(runs, events, strict=True):
        flushed.zero_()
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize(flushed.device)
    return [begin.elapsed_time(end) for begin, end in events]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

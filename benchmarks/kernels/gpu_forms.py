"""Times every case and its peers on a GPU, and sets each beside its floor and beside what is asked of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from rich.progress import track

from benchmarks.kernels.case import Asked, Case, Make
from benchmarks.kernels.discovery import Place
from benchmarks.kernels.gpu_timing import GpuRates, median_ms
from benchmarks.kernels.gpu_worker import WorkerLostError, gpu_works
from benchmarks.report import progress

Row = dict[str, Any]
R = TypeVar("R")

OUT_OF_TIME = "not measured: out of time"
_CASE_S = 60.0
"""Its inputs, and compiling what has not been compiled."""


class Calls(Protocol):
    """A process with a GPU, which `stop` replaces by a new one."""

    def call(self, limit_s: float, function: Callable[..., R], *args: Any) -> R: ...
    def stop(self) -> None: ...


def time_all(places: Sequence[Place], rates: GpuRates, worker: Calls, budget_s: float) -> list[Row]:
    """A row for every case. Ours come first, then peers; what comes after `budget_s` seconds is not measured.

    A case that fails, breaks the GPU's context or never ends costs only its own figures.
    """
    end = time.monotonic() + budget_s
    ours = [_told(worker, end, _CASE_S, case_ms, place) for place in track(places, "ours", console=progress)]
    rows = []
    for place, ms in zip(track(places, "peers", console=progress), ours, strict=True):
        case = place.case
        if isinstance(ms, str):
            rows.append(row_of(case, rates, error=ms if ms == OUT_OF_TIME else f"failed: {ms}"))
            continue
        # No shorter limit for one: some try out many ways to compile themselves.
        found = {name: _told(worker, end, budget_s, peer_ms, place, name) for name in case.peers}
        peers = {name: told for name, told in found.items() if isinstance(told, float)}
        without = "; ".join(f"no {name}: {told}" for name, told in found.items() if isinstance(told, str))
        rows.append(row_of(case, rates, ms, peers, without))
    return rows


def row_of(
    case: Case, rates: GpuRates, ms: float | None = None, peers: dict[str, float] | None = None, error: str = ""
) -> Row:
    """What a case reached; `peers` in milliseconds. The floor is the longer of its bytes' time and its operations'."""
    floor_ms = 1e3 * max(case.bytes_moved / rates.copy_bytes_s, case.operations / rates.matrix_op_s)
    asked = str(case.asked) if case.asked else None
    row: Row = {"op": case.op, "case": case.name, "asked": asked, "floor_ms": floor_ms, "error": error}
    if ms is None:
        return {**row, "ok": False, "ms": None, "reached": None, "met": None}
    times = {name: peer / ms for name, peer in (peers or {}).items()}
    gb_s = case.bytes_moved / ms / 1e6
    reached = _reached(case.asked, gb_s, rates, times) if case.asked else None
    return {
        **row,
        "ok": True,
        "ms": ms,
        "gb_s": gb_s,
        "tflop_s": case.operations / ms / 1e9 if case.operations else None,
        "of_floor": floor_ms / ms,
        "peers_ms": peers or {},
        "times_peer": times,
        "reached": reached,
        "met": None if case.asked is None or reached is None else reached >= case.asked.ratio,
    }


def case_ms(place: Place) -> float | str:
    """Milliseconds of a case, or why there are none."""
    return _measured(place.case.make)


def peer_ms(place: Place, name: str) -> float | str:
    """Milliseconds of a peer of a case, or why there are none."""
    return _measured(place.case.peers[name])


def _reached(asked: Asked, gb_s: float, rates: GpuRates, times_peer: dict[str, float]) -> float | None:
    """None if there is nothing to compare with."""
    if asked.of == "copy":
        return 1e9 * gb_s / rates.copy_bytes_s
    return min((times for name, times in times_peer.items() if name.startswith(asked.of)), default=None)


def _told(worker: Calls, end: float, limit_s: float, function: Callable[..., float | str], *args: Any) -> float | str:
    left_s = end - time.monotonic()
    if left_s <= 0:
        return OUT_OF_TIME
    try:
        told = worker.call(min(left_s, limit_s), function, *args)
        if isinstance(told, str) and not worker.call(_CASE_S, gpu_works):
            worker.stop()
    except WorkerLostError as error:
        return str(error)
    return told


def _measured(make: Make) -> float | str:
    device = torch.device("cuda")
    try:
        torch.cuda.empty_cache()
        with torch.inference_mode():
            return median_ms(make(device), device)
    except ImportError:
        return "not installed"
    except Exception as error:  # noqa: BLE001  it is the row that says so
        return (str(error).splitlines() or [repr(error)])[0][:200]

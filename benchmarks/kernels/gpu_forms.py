"""Times every case and its peers on a GPU, and sets each beside its floor."""

import time
from collections.abc import Collection
from typing import Any

import torch
from rich.progress import track

from benchmarks.kernels.case import Case, Make
from benchmarks.kernels.discovery import all_cases
from benchmarks.kernels.gpu_timing import GpuRates, median_ms
from benchmarks.report import progress

Row = dict[str, Any]

OUT_OF_TIME = "not measured: out of time"


def time_all(rates: GpuRates, device: torch.device, budget_s: float, ops: Collection[str] = ()) -> list[Row]:
    """A row for every case; those that come after `budget_s` seconds are not measured, and their rows say so."""
    end = time.monotonic() + budget_s
    rows = []
    with torch.inference_mode():
        places = [place for place in all_cases(ops) if place.case.timed]
        for place in track(places, "timing", console=progress):
            late = time.monotonic() > end
            rows.append(row_of(place.case, rates, error=OUT_OF_TIME) if late else _timed(place.case, rates, device))
            torch.cuda.empty_cache()
    return rows


def row_of(
    case: Case, rates: GpuRates, ms: float | None = None, peers: dict[str, float] | None = None, error: str = ""
) -> Row:
    """What a case reached; `peers` in milliseconds. The floor is the longer of its bytes' time and its operations'."""
    floor_ms = 1e3 * max(case.bytes_moved / rates.copy_bytes_s, case.operations / rates.matrix_op_s)
    row: Row = {"op": case.op, "case": case.name, "asked": case.asked, "floor_ms": floor_ms, "error": error}
    if ms is None:
        return {**row, "ok": False, "ms": None}
    return {
        **row,
        "ok": True,
        "ms": ms,
        "gb_s": case.bytes_moved / ms / 1e6,
        "tflop_s": case.operations / ms / 1e9 if case.operations else None,
        "of_floor": floor_ms / ms,
        "peers_ms": peers or {},
        "times_peer": {name: peer / ms for name, peer in (peers or {}).items()},
    }


def _timed(case: Case, rates: GpuRates, device: torch.device) -> Row:
    try:
        ms = median_ms(case.make(device), device)
    except Exception as error:  # noqa: BLE001  one case that fails is a row that says so, and exit status 1
        return row_of(case, rates, error=f"failed: {_first_line(error)}")
    peers, without = {}, []
    for name, make in case.peers.items():
        timed = _peer_ms(make, device)
        if isinstance(timed, float):
            peers[name] = timed
        else:
            without.append(f"no {name}: {timed}")
    return row_of(case, rates, ms, peers, error="; ".join(without))


def _peer_ms(make: Make, device: torch.device) -> float | str:
    """Its time, or why there is none."""
    torch.cuda.empty_cache()
    try:
        return median_ms(make(device), device)
    except ImportError:
        return "not installed"
    except Exception as error:  # noqa: BLE001  a peer that fails is left out by name
        return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0][:200]

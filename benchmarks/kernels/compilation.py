"""Compiles every kernel that the cases launch, for GPUs that need not be there, and judges what each takes of one."""

import functools
import multiprocessing
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import track

from benchmarks.kernels.case import Case
from benchmarks.kernels.discovery import Place, all_cases
from benchmarks.report import progress
from prfaas_kernels import aot
from prfaas_kernels.dispatch import triton_kernels
from prfaas_kernels.launch import Launch, recorded

Row = dict[str, Any]

MOST_SPILLED_BYTES = 256
REGISTERS = 65_536
"""Of a multiprocessor: no block of threads can have more."""
ALLOWED_SPILLS: dict[str, str] = {}
"""Kernels that may spill more than MOST_SPILLED_BYTES, and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A launch of a case, by its place among what the case launches, for a compute capability."""

    place: Place
    launch: int
    target: int


def compile_all(targets: Sequence[int], ops: Collection[str] = ()) -> list[Row]:
    """A row for every distinct kernel of all cases and each target, in parallel; those that cannot be are not ok."""
    found, rows = [], []
    for target in targets:
        seen: set[str] = set()
        for place in all_cases(ops):
            try:
                found += list(_jobs(place, target, seen))
            except Exception as error:  # noqa: BLE001  that a case cannot be recorded is a result, not the end of all
                rows.append(_row(place.case, None, target, error=f"cannot be recorded: {error!r}"))
    workers = max(1, min(os.cpu_count() or 1, len(found)))
    # Not forked: torch and the progress bar have threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        done = pool.map(compiled, found)
        rows += track(done, f"compiling {len(found)} kernels", total=len(found), console=progress)
    return rows


def compiled(job: Job) -> Row:
    """Records a case again and compiles one launch of it."""
    case = job.place.case
    launch = _launches(job.place, job.target)[job.launch]
    try:
        resources = aot.compile_launch(launch, job.target)
    except aot.CompileError as error:
        return _row(case, launch, job.target, error=str(error))
    return _row(case, launch, job.target, resources)


def launches(case: Case, target: int) -> list[Launch]:
    """What a case starts on a GPU of a compute capability; runs nothing."""
    with recorded(target) as found, triton_kernels():
        case.make(torch.device("meta"))()
    return list(found)


@functools.lru_cache(maxsize=4)
def _launches(place: Place, target: int) -> list[Launch]:
    return launches(place.case, target)


def problems(kernel: str, resources: aot.Resources, target: int) -> list[str]:
    """What keeps a compiled kernel from being started, or makes it slow."""
    found = []
    if resources.spill_bytes > MOST_SPILLED_BYTES and kernel not in ALLOWED_SPILLS:
        found.append(f"spills {resources.spill_bytes} bytes, more than {MOST_SPILLED_BYTES}")
    if resources.shared_bytes > aot.SHARED_BYTES[target]:
        found.append(f"{resources.shared_bytes} bytes of shared memory, more than {aot.SHARED_BYTES[target]}")
    if resources.registers * resources.threads > REGISTERS:
        found.append(f"{resources.registers} registers for {resources.threads} threads, more than {REGISTERS} in all")
    return found


def _jobs(place: Place, target: int, seen: set[str]) -> Iterator[Job]:
    """Jobs for what no case before this one launches; adds to `seen`."""
    for i, launch in enumerate(_launches(place, target)):
        key = aot.key(launch, target)
        if key not in seen:
            seen.add(key)
            yield Job(place, i, target)


def _row(
    case: Case, launch: Launch | None, target: int, resources: aot.Resources | None = None, error: str = ""
) -> Row:
    kernel = "" if launch is None else str(launch.kernel.__name__)
    wrong = [error] if resources is None else problems(kernel, resources, target)
    return {
        "op": case.op if launch is None else launch.kernel.__module__.split(".")[1],
        "kernel": kernel,
        "case": case.name,
        "target": target,
        "ok": not wrong,
        "registers": resources and resources.registers,
        "shared_bytes": resources and resources.shared_bytes,
        "spill_bytes": resources and resources.spill_bytes,
        "threads": resources and resources.threads,
        "num_stages": launch and launch.num_stages,
        "problems": wrong,
    }

"""All kernels in one command: compiled for GPUs that need not be there, timed on the one that is, the CPU's checked.

Within eight minutes on a GPU. Exit status 1 if something is not as it has to be, 2 if what is asked cannot be run here.
"""

import json
import sys
from collections.abc import Collection
from datetime import date as calendar_date
from typing import Annotated

import torch
import typer

from benchmarks.kernels.compilation import compile_all
from benchmarks.kernels.cpu_forms import measure_all
from benchmarks.kernels.discovery import all_cases, all_cpu_cases
from benchmarks.kernels.gpu_checks import run_checks
from benchmarks.kernels.gpu_forms import time_all
from benchmarks.kernels.gpu_timing import gpu_rates
from benchmarks.kernels.gpu_worker import Worker, WorkerLostError
from benchmarks.kernels.page import PAGE, page
from benchmarks.kernels.tables import Results, as_object, show_all
from benchmarks.report import progress
from prfaas_kernels.aot import TARGETS
from prfaas_kernels.launch import INTERPRETED

_TESTS_S, _SANITIZER_S, _TIMING_S, _RATES_S = 140, 80, 200, 120


class CannotRunError(RuntimeError):
    """What was asked for needs a machine or an environment that this is not."""


def main(
    compile_only: Annotated[bool, typer.Option("--compile", help="Compile all kernels; no GPU is needed.")] = False,
    target: Annotated[list[int] | None, typer.Option(help=f"Of {TARGETS}; repeatable; all if not given.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Compare the CPU's forms with their references.")] = False,
    op: Annotated[list[str] | None, typer.Option(help="Only this op; repeatable.")] = None,
    check: Annotated[bool, typer.Option(help="Run the kernels' tests on the GPU before timing.")] = True,
    timing_s: Annotated[
        float, typer.Option(min=1, help="Of timing at most. Peers that try many ways to compile need more at first.")
    ] = _TIMING_S,
    write: Annotated[
        bool, typer.Option("--write", help=f"Do all that can be done here and write {PAGE.name}.")
    ] = False,
    date: Annotated[str | None, typer.Option(help="For --write: today, e.g. 2026-01-31.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Compile, check and time every kernel at the sizes of production models."""
    _refuse_nonsense(target or (), op or (), date, write=write)
    on_gpu = torch.cuda.is_available() if write else not (compile_only or cpu)
    try:
        _refuse_impossible(compiles=compile_only or write, on_gpu=on_gpu)
        results = Results(
            kernels=compile_all(target or TARGETS, op or ()) if compile_only or write else None,
            cpu=measure_all(op or ()) if cpu or write else None,
        )
        if on_gpu:
            results = _with_gpu(results, op or (), timing_s, check=check)
    except CannotRunError as error:
        progress.print(f"cannot run: {error}")
        raise typer.Exit(2) from error
    if write and date is not None:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(results, [place.case for place in all_cases()], date), encoding="utf-8")
    _tell(results, json_output=json_output)


def _refuse_nonsense(targets: Collection[int], ops: Collection[str], date: str | None, *, write: bool) -> None:
    known = {place.case.op for place in all_cases()} | {case.op for case in all_cpu_cases()}
    if unknown := set(targets) - set(TARGETS):
        raise typer.BadParameter(f"unknown target {', '.join(map(str, unknown))}; known: {TARGETS}")
    if strange := set(ops) - known:
        raise typer.BadParameter(f"unknown op {', '.join(strange)}; known: {', '.join(sorted(known))}")
    if write and (date is None or ops or targets):
        raise typer.BadParameter("--write is for all ops and targets, and needs --date")
    if date is not None:
        try:
            calendar_date.fromisoformat(date)
        except ValueError as error:
            raise typer.BadParameter(f"--date: {error}") from error


def _refuse_impossible(*, compiles: bool, on_gpu: bool) -> None:
    """Raises CannotRunError."""
    if on_gpu and not torch.cuda.is_available():
        raise CannotRunError("there is no GPU here. Without one: --compile, --cpu, or --write --date for both")
    if (compiles or on_gpu) and INTERPRETED:
        raise CannotRunError("TRITON_INTERPRET is set, so nothing would be compiled; unset it")


def _with_gpu(results: Results, ops: Collection[str], timing_s: float, *, check: bool) -> Results:
    """Raises CannotRunError. Compiles before it times, in as many processes as there are cores: Triton keeps it."""
    worker = Worker()
    progress.print("what the GPU can do")
    try:
        rates = worker.call(_RATES_S, gpu_rates)
        worker.stop()
        kernels = results.kernels
        if kernels is None and rates.capability in TARGETS:
            kernels = compile_all([rates.capability], ops)
        checks = run_checks(_TESTS_S, _SANITIZER_S) if check else []
        places = [place for place in all_cases(ops) if place.case.timed]
        timed = time_all(places, rates, worker, timing_s)
    except WorkerLostError as error:
        raise CannotRunError(f"the GPU: {error}") from error
    finally:
        worker.stop()
    return Results(kernels, results.cpu, timed, rates, checks)


def _tell(results: Results, *, json_output: bool) -> None:
    """Prints, and exits with 1 if something is not ok."""
    if json_output:
        sys.stdout.write(json.dumps(as_object(results)) + "\n")
    else:
        show_all(results)
    if not results.ok:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

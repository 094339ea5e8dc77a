"""The page docs/benchmarks/kernels.md, from results. Measures nothing; what was not measured says so."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import chain, groupby, repeat
from pathlib import Path
from re import sub

from benchmarks.kernels.case import Case
from benchmarks.kernels.compilation import ALLOWED_SPILLS, MOST_SPILLED_BYTES
from benchmarks.kernels.tables import (
    CPU,
    GPU,
    Results,
    Row,
    asked_told,
    by_kernel,
    cells_of,
    headings_of,
    rates_told,
    resources,
    short,
)
from benchmarks.report import machine

PAGE = Path(__file__).parents[2] / "docs/benchmarks/kernels.md"
_ABSENT = "not measured"
_TEXT = """# Kernels

Every op at the sizes that production models have it in: what its kernels take of a GPU, how far they are from what the
GPU can do at best, and how far the CPU's forms are from their references. `python -m benchmarks.kernels --write --date
{date}` wrote this page on {date}; it is not edited by hand. [Benchmarks](../../benchmarks/README.md#kernels) says more
of the command.

Here: {machine}, triton {triton}. {gpu}

## On a GPU

A time is the median of at least ten calls between events of the GPU's own clock, with nothing of the inputs in its
level-2 cache. The floor is the longer of two times: the bytes that the op cannot avoid to move, at the rate of a large
copy; the operations that it cannot avoid, at the rate of a large bf16 product; both rates of the same run. *Asked* is
what the project asks of a kernel: a share of the rate of that copy, or of the speed of the fastest peer of that name.
{asked}

{gpu_table}

{notes}

## Compiled ahead of time

{compiled}

{compiled_table}

## The CPU's forms

The error ratio is the RMS of the difference from the reference over the RMS of the reference. With a compiler here the
forms are the compiled kernels that an engine on a CPU has.

{cpu_table}
"""
_COMPILED = """{count} variants of kernels, for {targets}: registers per thread / KB of shared memory of a block / bytes
that a thread spills for want of registers. *As above*: the variant is one that a case above has. {allowed} {wrong}"""


def page(results: Results, cases: Iterable[Case], date: str) -> str:
    """Markdown. Every case that is timed has a row in the GPU's table, measured or not."""
    rows = results.gpu if results.gpu is not None else [_not_measured(case) for case in cases if case.timed]
    text = _TEXT.format(
        date=date,
        machine=machine(),
        triton=version("triton"),
        gpu=_about_gpu(results),
        asked=f"In this run: {asked_told(rows)}.",
        gpu_table=_table(headings_of(GPU), [_gpu_cells(row) for row in rows]),
        notes="\n".join(f"- {row['op']}, {row['case']}: {row['error']}" for row in rows if row["error"]),
        compiled=_about_kernels(results.kernels or []),
        compiled_table=_compiled(results.kernels or []),
        cpu_table=_table(headings_of(CPU), [cells_of(row, CPU) for row in results.cpu or []]),
    )
    return sub("\n{3,}", "\n\n", text)


def _about_gpu(results: Results) -> str:
    if results.rates is None:
        return "There was no GPU in this run, so nothing is timed on one."
    told = [f"{name}: {value}" for name, value in rates_told(results.rates).items()]
    return "; ".join([*told, *(f"{check.name}: {check.told}" for check in results.checks)]) + "."


def _about_kernels(rows: Sequence[Row]) -> str:
    targets = sorted({row["target"] for row in rows})
    wrong = [f"{row['kernel']}, sm_{row['target']}: {', '.join(row['problems'])}" for row in rows if row["problems"]]
    return _COMPILED.format(
        count=len(rows),
        targets=", ".join(f"sm_{target}" for target in targets),
        allowed=_about_spills(ALLOWED_SPILLS),
        wrong="Not ok: " + "; ".join(wrong) if wrong else "All are ok.",
    )


def _about_spills(allowed: Mapping[str, str]) -> str:
    if not allowed:
        return f"None may spill more than {MOST_SPILLED_BYTES} bytes."
    told = "; ".join(f"{kernel}, {why}" for kernel, why in allowed.items())
    return f"These may spill more than {MOST_SPILLED_BYTES} bytes: {told}."


def _not_measured(case: Case) -> Row:
    asked = str(case.asked) if case.asked else None
    return {"op": case.op, "case": case.name, "asked": asked, "met": None, "ms": None, "error": ""}


def _gpu_cells(row: Row) -> list[str]:
    """One cell says that nothing was measured, the others of a row stay empty."""
    if row["ms"] is not None:
        return cells_of(row, GPU)
    told = {"op": row["op"], "asked": row["asked"] or "–", "case": row["case"], "ms": _ABSENT}
    return [told.get(column.key, "") for column in GPU]


def _compiled(rows: Sequence[Row]) -> str:
    """A row for each kernel of a case, a column for each target; an op is named where it begins."""
    targets, lines = by_kernel(rows)
    cells = []
    for op, group in groupby(lines, key=lambda line: line[0]):
        named = chain([op], repeat(""))
        cells += [[next(named), short(kernel), *map(resources, found), case] for _, kernel, case, found in group]
    return _table(["op", "kernel", *(f"sm_{target}" for target in targets), "case"], cells)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

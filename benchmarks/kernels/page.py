"""The page docs/benchmarks/kernels.md, from results. Measures nothing; what was not measured says so."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from benchmarks.kernels.case import Case
from benchmarks.kernels.compilation import ALLOWED_SPILLS
from benchmarks.kernels.tables import CPU, GPU, Results, Row, rates_told
from benchmarks.report import machine

PAGE = Path(__file__).parents[2] / "docs/benchmarks/kernels.md"
_ABSENT = "not measured"
_TEXT = """# Kernels

Written by `python -m benchmarks.kernels --write --date {date}` on {date}: {machine}, triton {triton}. Do not edit.

## On a GPU

{gpu}

A time is the median of at least ten calls between events of the GPU's own clock, with nothing of the inputs in its
level-2 cache. GB/s and TFLOP/s count what the op cannot avoid to move and to multiply. The floor is the longer of those
bytes at the rate of a large copy and those operations at the rate of a large bf16 product, both of the same run.

{gpu_table}

## Compiled ahead of time

Every kernel that a case launches, for each compute capability: registers per thread / bytes of shared memory / bytes
spilled per thread. {allowed}

{compiled_table}

## The CPU's forms

Error ratio is the RMS of the difference from the reference over the RMS of the reference.

{cpu_table}
"""


def page(results: Results, cases: Iterable[Case], date: str) -> str:
    """Markdown. Every case has a row in the GPU's table, measured or not."""
    rows = results.gpu if results.gpu is not None else [_not_measured(case) for case in cases]
    return _TEXT.format(
        date=date,
        machine=machine(),
        triton=version("triton"),
        gpu=_about_gpu(results),
        gpu_table=_table([column.heading for column in GPU], [_gpu_cells(row) for row in rows]),
        allowed=_about_spills(ALLOWED_SPILLS),
        compiled_table=_compiled(results.kernels or []),
        cpu_table=_table(
            [column.heading for column in CPU], [[column.cell(row) for column in CPU] for row in results.cpu or []]
        ),
    )


def _about_gpu(results: Results) -> str:
    if results.rates is None:
        return "There was no GPU in this run: nothing in this section is measured."
    told = [f"{name}: {value}" for name, value in rates_told(results.rates).items()]
    return "; ".join([*told, *(f"{check.name}: {check.told}" for check in results.checks)]) + "."


def _about_spills(allowed: Mapping[str, str]) -> str:
    if not allowed:
        return "None may spill more than 256 bytes."
    return "These may spill more than 256 bytes: " + "; ".join(f"{kernel}, {why}" for kernel, why in allowed.items())


def _not_measured(case: Case) -> Row:
    return {"op": case.op, "case": case.name, "asked": case.asked, "ms": None}


def _gpu_cells(row: Row) -> list[str]:
    figures = {"ms", "gb_s", "tflop_s", "of_floor", "times_peer"}
    return [
        _ABSENT if row["ms"] is None and column.key in figures else column.cell(row) if row.get(column.key) else ""
        for column in GPU
    ]


def _compiled(rows: Sequence[Row]) -> str:
    """A row for each kernel of a case, a column for each target."""

    def named(row: Row) -> tuple[str, ...]:
        return row["op"], row["kernel"], row["case"]

    targets = sorted({row["target"] for row in rows})
    cells = []
    for name, group in groupby(sorted(rows, key=named), key=named):
        by_target: dict[int, list[str]] = {target: [] for target in targets}
        for row in group:
            by_target[row["target"]].append(_resources(row))
        cells.append([*name, *("; ".join(found) or "as a case above" for found in by_target.values())])
    return _table(["op", "kernel", "case", *(f"sm_{target}" for target in targets)], cells)


def _resources(row: Row) -> str:
    if row["registers"] is None:
        return "does not compile"
    told = f"{row['registers']} / {row['shared_bytes']:,} / {row['spill_bytes']}"
    return told if row["ok"] else f"{told}: {', '.join(row['problems'])}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

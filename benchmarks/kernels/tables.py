"""The tables that are printed: what was compiled, what the CPU's forms reach, what the GPU reached."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, zip_longest
from typing import Any

from benchmarks.kernels.compilation import ALLOWED_SPILLS
from benchmarks.kernels.gpu_checks import Check
from benchmarks.kernels.gpu_timing import GpuRates
from benchmarks.report import Column, machine

Row = dict[str, Any]

_WIDTH, _LEAST_ROOM = 140, 24

CPU = (
    Column("op", "op"),
    Column("", "ok"),
    Column("error ratio", "error_ratio", ".1e"),
    Column("tolerance", "tolerance", ".1e"),
    Column("ms", "ms", ",.3f"),
    Column("reference ms", "reference_ms", ",.3f"),
    Column("case", "case"),
)
GPU = (
    Column("op", "op"),
    Column("ms", "ms", ",.4f"),
    Column("floor", "of_floor", ".0%"),
    Column("GB/s", "gb_s", ",.0f"),
    Column("TFLOP/s", "tflop_s", ",.0f"),
    Column("asked", "asked"),
    Column("reached", "reached", ".2f"),
    Column("", "met"),
    Column("times as fast as", "times_peer", ".2f"),
    Column("case", "case"),
)


@dataclass(frozen=True, slots=True)
class Results:
    """Of one run. What is None was not run."""

    kernels: list[Row] | None = None
    cpu: list[Row] | None = None
    gpu: list[Row] | None = None
    rates: GpuRates | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        rows = [*(self.kernels or []), *(self.cpu or []), *(self.gpu or [])]
        return all(row["ok"] for row in rows) and all(check.ok for check in self.checks)


def as_object(results: Results) -> Row:
    """For JSON: what was run, and where."""
    found: Row = {"benchmark": "kernels", "machine": machine(), "ok": results.ok}
    if results.kernels is not None:
        found |= {"kernels": results.kernels, "allowed_spills": ALLOWED_SPILLS}
    if results.cpu is not None:
        found["cpu"] = results.cpu
    if results.gpu is not None:
        found["gpu"] = results.gpu
        found["rates"] = results.rates and asdict(results.rates)
        found["checks"] = [asdict(check) for check in results.checks]
    return found


def show_all(results: Results) -> None:
    """Prints a table for each part that was run."""
    if results.kernels is not None:
        targets, lines = by_kernel(results.kernels)
        cells = [[short(kernel), *map(resources, of_targets), case] for _, kernel, case, of_targets in lines]
        headings = ["kernel", *(f"sm_{target}" for target in targets), "case"]
        _print("kernels, compiled: registers/KB of shared memory/bytes spilled", headings, cells)
        wrong = [row for row in results.kernels if row["problems"]]
        _facts({f"{row['kernel']}, sm_{row['target']}": "; ".join(row["problems"]) for row in wrong})
        _facts({f"{kernel} may spill": reason for kernel, reason in ALLOWED_SPILLS.items()})
        _facts({"kernels": f"{len(results.kernels)}, {len(wrong)} of them not ok"})
    if results.cpu is not None:
        _print("kernels, the CPU's forms", headings_of(CPU), [cells_of(row, CPU) for row in results.cpu])
    if results.gpu is not None:
        _print("kernels, on the GPU", headings_of(GPU), [cells_of(row, GPU) for row in results.gpu])
        _facts({f"{row['op']}, {row['case']}": row["error"] for row in results.gpu if row["error"]})
        _facts({check.name: check.told for check in results.checks} | rates_told(results.rates))
        _facts({"asked": asked_told(results.gpu)})
    _facts({"machine": machine()})


def by_kernel(rows: Sequence[Row]) -> tuple[list[int], list[tuple[str, str, str, list[Row | None]]]]:
    """The targets, and for each kernel of a case its op, name, case and row for each target.

    None where a target has it from a case above.
    """

    def named(row: Row) -> tuple[str, str, str]:
        return row["op"], row["kernel"], row["case"]

    targets, lines = sorted({row["target"] for row in rows}), []
    for name, group in groupby(sorted(rows, key=named), key=named):
        found = list(group)
        columns = [[row for row in found if row["target"] == target] for target in targets]
        lines += [(*name, list(line)) for line in zip_longest(*columns)]
    return targets, lines


def short(kernel: str) -> str:
    """Its name without what all have."""
    return kernel.removeprefix("_").removesuffix("_kernel")


def resources(row: Row | None) -> str:
    """Registers per thread, KB of shared memory, bytes spilled per thread."""
    if row is None:
        return "as above"
    if row["registers"] is None:
        return "no"
    told = f"{row['registers']}/{row['shared_bytes'] / 1024:.0f}/{row['spill_bytes']}"
    return told if row["ok"] else f"{told} no"


def cells_of(row: Row, columns: Sequence[Column]) -> list[str]:
    """Of a row, with words for what is true or false."""
    words = {"ok": ("no", "ok"), "met": ("missed", "met")}
    return [
        words[column.key][row[column.key]] if isinstance(row.get(column.key), bool) else column.cell(row)
        for column in columns
    ]


def headings_of(columns: Sequence[Column]) -> list[str]:
    return [column.heading for column in columns]


def asked_told(rows: Sequence[Row]) -> str:
    """How many of the figures that are asked for were met."""
    judged = [row["met"] for row in rows if row["asked"]]
    return f"{judged.count(True)} met, {judged.count(False)} missed, {judged.count(None)} not measured"


def _print(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first and last column to the left, the others to the right; the last is cut where there is no room for it."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    room = max(_LEAST_ROOM, width - sum(widths[:-1]) - 2 * (len(widths) - 1))
    lines = [title, ""]
    widths[-1] = min(widths[-1], room)
    for first, *others, last in [headings, ["-" * size for size in widths], *rows]:
        cells = [first.ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(others, widths[1:-1], strict=True))]
        lines.append("  ".join([*cells, last if len(last) <= room else f"{last[: room - 1]}…"]))
    sys.stdout.write("\n".join(lines) + "\n\n")


def _facts(facts: Mapping[str, str]) -> None:
    for name, told in facts.items():
        sys.stdout.write(f"{name}: {told}\n")


def rates_told(rates: GpuRates | None) -> dict[str, str]:
    """For people."""
    if rates is None:
        return {}
    return {
        "GPU": rates.name,
        "copy": f"{rates.copy_bytes_s / 1e9:,.0f} GB/s read and written",
        "bf16 product of 8192": f"{rates.matrix_op_s / 1e12:,.0f} TFLOP/s",
    }

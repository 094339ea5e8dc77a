"""The tables that are printed: what was compiled, what the CPU's forms reach, what the GPU reached."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.kernels.compilation import ALLOWED_SPILLS
from benchmarks.kernels.gpu_checks import Check
from benchmarks.kernels.gpu_timing import GpuRates
from benchmarks.report import Column, machine, show

Row = dict[str, Any]

COMPILED = (
    Column("op", "op"),
    Column("kernel", "kernel"),
    Column("case", "case"),
    Column("target", "target"),
    Column("ok", "ok", ""),
    Column("registers", "registers", "d"),
    Column("shared, bytes", "shared_bytes", ",d"),
    Column("spilled, bytes", "spill_bytes", ",d"),
    Column("threads", "threads", "d"),
)
CPU = (
    Column("op", "op"),
    Column("case", "case"),
    Column("error ratio", "error_ratio", ".1e"),
    Column("tolerance", "tolerance", ".1e"),
    Column("ms", "ms", ",.3f"),
    Column("reference ms", "reference_ms", ",.3f"),
)
GPU = (
    Column("op", "op"),
    Column("case", "case"),
    Column("ms", "ms", ",.4f"),
    Column("GB/s", "gb_s", ",.0f"),
    Column("TFLOP/s", "tflop_s", ",.1f"),
    Column("of floor", "of_floor", ".0%"),
    Column("times faster than", "times_peer", ".2f"),
    Column("asked", "asked"),
    Column("note", "error"),
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
        wrong = {f"{row['kernel']}, sm_{row['target']}": "; ".join(row["problems"]) for row in results.kernels}
        facts = {"kernels": str(len(results.kernels))} | {name: told for name, told in wrong.items() if told}
        facts |= {f"{kernel} may spill": reason for kernel, reason in ALLOWED_SPILLS.items()}
        show("kernels, compiled", COMPILED, results.kernels, facts, json_output=False)
    if results.cpu is not None:
        show("kernels, the CPU's forms", CPU, results.cpu, {}, json_output=False)
    if results.gpu is not None:
        facts = {check.name: check.told for check in results.checks} | rates_told(results.rates)
        show("kernels, on the GPU", GPU, results.gpu, facts, json_output=False)


def rates_told(rates: GpuRates | None) -> dict[str, str]:
    """For people."""
    if rates is None:
        return {}
    return {
        "GPU": rates.name,
        "copy": f"{rates.copy_bytes_s / 1e9:,.0f} GB/s read and written",
        "bf16 product of 8192": f"{rates.matrix_op_s / 1e12:,.0f} TFLOP/s",
    }

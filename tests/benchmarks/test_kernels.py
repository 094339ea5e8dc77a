"""The command that compiles, checks and times kernels: what it compiles, what it refuses, what it writes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from benchmarks.kernels import __main__ as command
from benchmarks.kernels import compilation, page
from benchmarks.kernels.case import Case, CpuCase, Run
from benchmarks.kernels.cpu_forms import error_ratio, measure
from benchmarks.kernels.discovery import all_cases, all_cpu_cases
from benchmarks.kernels.gpu_checks import Check
from benchmarks.kernels.gpu_forms import row_of
from benchmarks.kernels.gpu_timing import GpuRates
from benchmarks.kernels.tables import Results, as_object, show_all
from prfaas_kernels.aot import SHARED_BYTES, Resources

ROOT = Path(__file__).parents[2]
FITS = Resources(registers=128, shared_bytes=SHARED_BYTES[90], spill_bytes=256, threads=512)
RATES = GpuRates("a GPU", copy_bytes_s=1e12, matrix_op_s=1e14)


def no_run(_: torch.device) -> Run:
    raise AssertionError


CASE = Case("norm", "small | case", no_run, bytes_moved=10**9, operations=10**12, asked="much")


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | settings
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_kernels_are_compiled_without_a_gpu_and_told_as_one_object() -> None:
    done = run("--compile", "--target", "90", "--op", "rotary", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kernels = told["kernels"]
    assert len(kernels) > 1
    assert {kernel["kernel"] for kernel in kernels} == {"_rotary_kernel"}
    for kernel in kernels:
        assert (kernel["op"], kernel["target"], kernel["ok"], kernel["problems"]) == ("rotary", 90, True, [])
        assert 0 < kernel["registers"] < 256
        assert kernel["shared_bytes"] >= 0
        assert kernel["threads"] == 128
    assert told["allowed_spills"] == compilation.ALLOWED_SPILLS


def test_an_interpreter_that_compiles_nothing_is_refused() -> None:
    done = run("--compile", TRITON_INTERPRET="1")
    assert done.returncode == 2
    assert "TRITON_INTERPRET" in done.stderr
    assert done.stdout == ""


def test_without_a_gpu_it_says_what_can_be_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(typer.Exit) as exit_:
        command.main()
    assert exit_.value.exit_code == 2
    told = capsys.readouterr().err
    assert "no GPU" in told
    assert "--compile" in told


@pytest.mark.parametrize(
    "asked",
    [
        {"target": [70]},
        {"op": ["nothing"]},
        {"write": True},
        {"write": True, "date": "today"},
        {"write": True, "date": "2026-01-31", "op": ["norm"]},
        {"write": True, "date": "2026-01-31", "target": [90]},
    ],
)
def test_nonsense_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter):
        command.main(**asked)


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (FITS, ""),
        (replace(FITS, spill_bytes=260), "spills 260 bytes"),
        (replace(FITS, shared_bytes=SHARED_BYTES[90] + 1), "shared memory"),
        (replace(FITS, registers=129), "129 registers for 512 threads"),
    ],
)
def test_what_a_kernel_may_take(resources: Resources, told: str) -> None:
    found = compilation.problems("_kernel", resources, 90)
    assert len(found) == bool(told)
    assert told in " ".join(found)


def test_shared_memory_is_judged_by_the_target() -> None:
    assert compilation.problems("_kernel", FITS, 80)


def test_spills_that_are_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "ALLOWED_SPILLS", {"_known": "once per program"})
    assert compilation.problems("_known", replace(FITS, spill_bytes=4000), 90) == []
    assert compilation.problems("_other", replace(FITS, spill_bytes=4000), 90)


def test_a_case_that_cannot_be_recorded_is_a_row_that_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    place = all_cases()[0]
    monkeypatch.setattr(compilation, "all_cases", lambda _: [place])
    monkeypatch.setattr(compilation, "launches", no_run)
    (row,) = compilation.compile_all([90])
    assert not row["ok"]
    assert row["case"] == place.case.name
    assert "recorded" in row["problems"][0]


def test_cases_are_found_and_can_be_chosen() -> None:
    ops = {place.case.op for place in all_cases()}
    assert ops >= {"norm", "rotary", "moe"}
    assert {place.case.op for place in all_cases(["moe"])} == {"moe"}
    assert {case.op for case in all_cpu_cases(["norm"])} == {"norm"}
    names = [(place.case.op, place.case.name) for place in all_cases()]
    assert len(set(names)) == len(names)


def test_the_cpu_s_forms_are_judged_by_their_tolerance() -> None:
    def off_by_a_tenth(tolerance: float) -> CpuCase:
        return CpuCase("op", "case", lambda: torch.full((3,), 1.1), lambda: torch.ones(3), tolerance)

    assert not measure(off_by_a_tenth(0.09))["ok"]
    row = measure(off_by_a_tenth(0.11))
    assert row["ok"]
    assert row["error_ratio"] == pytest.approx(0.1)
    assert min(row["ms"], row["reference_ms"]) > 0
    assert error_ratio(torch.tensor([torch.nan]), torch.ones(1)) == float("inf")


def test_the_floor_is_the_longer_of_moving_and_multiplying() -> None:
    row = row_of(CASE, RATES, ms=20.0, peers={"torch": 30.0})
    assert row["floor_ms"] == pytest.approx(10.0)  # the operations; the bytes take 1 ms
    assert row["of_floor"] == pytest.approx(0.5)
    assert (row["gb_s"], row["tflop_s"]) == (pytest.approx(50.0), pytest.approx(50.0))
    assert row["times_peer"] == {"torch": pytest.approx(1.5)}
    assert row_of(replace(CASE, operations=0), RATES, ms=20.0)["floor_ms"] == pytest.approx(1.0)


def canned(**changed: Any) -> Results:
    compiled = {
        "op": "norm",
        "kernel": "_norm_kernel",
        "case": CASE.name,
        "ok": True,
        "registers": 64,
        "shared_bytes": 2048,
        "spill_bytes": 8,
        "threads": 128,
        "problems": [],
    }
    cpu = {
        "op": "norm",
        "case": "c",
        "error_ratio": 1e-7,
        "tolerance": 1e-6,
        "ok": True,
        "ms": 1.5,
        "reference_ms": 3.0,
    }
    return replace(Results([compiled | {"target": 80}, compiled | {"target": 90}], [cpu]), **changed)


def test_a_page_without_a_gpu_has_no_figures_of_one() -> None:
    text = page.page(canned(), [CASE], "2026-01-31")
    assert "on 2026-01-31" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "There was no GPU" in text
    absent = " | ".join(["not measured"] * 5)
    assert f"| norm | small \\| case | {absent} | much |  |" in text
    assert "| norm | _norm_kernel | small \\| case | 64 / 2,048 / 8 | 64 / 2,048 / 8 |" in text
    assert "| norm | c | 1.0e-07 | 1.0e-06 | 1.500 | 3.000 |" in text


def test_a_page_with_a_gpu_says_which_and_what_was_checked() -> None:
    rows = [row_of(CASE, RATES, ms=20.0, peers={"torch": 30.0}), row_of(CASE, RATES, error="failed: no memory")]
    text = page.page(canned(gpu=rows, rates=RATES, checks=[Check("tests", True, "9 passed")]), [], "2026-01-31")
    assert "GPU: a GPU; copy: 1,000 GB/s read and written; bf16 product of 8192: 100 TFLOP/s; tests: 9 passed." in text
    assert "| norm | small \\| case | 20.0000 | 50 | 50.0 | 50% | torch 1.50 | much |  |" in text
    assert "| much | failed: no memory |" in text


def test_one_thing_that_is_not_ok_spoils_all(capsys: pytest.CaptureFixture[str]) -> None:
    bad = canned(checks=[Check("tests", False, "1 failed")], gpu=[], rates=RATES)
    assert canned().ok
    assert not bad.ok
    assert as_object(bad)["checks"] == [{"name": "tests", "ok": False, "told": "1 failed"}]
    assert "gpu" not in as_object(canned())
    show_all(bad)
    assert "1 failed" in capsys.readouterr().out

"""The command that compiles, checks and times kernels: what it compiles, what it refuses, what it writes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from benchmarks.kernels import __main__ as command
from benchmarks.kernels import compilation, gpu_forms, page
from benchmarks.kernels.case import Asked, Case, CpuCase, Run
from benchmarks.kernels.cpu_forms import error_ratio, measure
from benchmarks.kernels.discovery import Place, all_cases, all_cpu_cases
from benchmarks.kernels.gpu_checks import Check, check_files
from benchmarks.kernels.gpu_forms import OUT_OF_TIME, row_of, time_all
from benchmarks.kernels.gpu_timing import GpuRates
from benchmarks.kernels.gpu_worker import Worker, WorkerLostError
from benchmarks.kernels.tables import Results, as_object, by_kernel, resources, show_all
from prfaas_kernels.aot import SHARED_BYTES, Resources

ROOT = Path(__file__).parents[2]
FITS = Resources(registers=128, shared_bytes=SHARED_BYTES[90], spill_bytes=256, threads=512)
RATES = GpuRates("a GPU", 90, copy_bytes_s=1e12, matrix_op_s=1e14)


def no_run(_: torch.device) -> Run:
    raise AssertionError


CASE = Case("norm", "small | case", no_run, bytes_moved=10**9, operations=10**12, asked=Asked(0.4))


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


def test_what_is_compiled_ahead_of_time_is_what_triton_would_compile() -> None:
    """Its own compiler, told of a GPU that is not there, makes the same of the same arguments."""
    program = """
import torch, triton
from triton.runtime import driver
from prfaas_kernels import aot, launch
from prfaas_kernels.dispatch import triton_kernels
from prfaas_kernels.norm import rms_norm

class NoGpu:
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_current_target(self): return triton.backends.compiler.GPUTarget("cuda", 90, 32)

driver.set_active(NoGpu())
keys = []
for tokens, size in ((7, 128), (1, 128), (16, 128), (7, 96), (7, 1)):
    with launch.recorded(90) as found, triton_kernels():
        rms_norm(torch.ones(tokens, size), torch.ones(size), 1e-6)
    start, source = found[0], aot.source(found[0], 90)[0]
    options = {"num_warps": start.num_warps, "num_stages": start.num_stages, **launch.OPTIONS, **start.constants}
    compiled = start.kernel.warmup(*start.arguments, grid=start.grid, **options)
    assert compiled.src.hash() == source.hash(), (tokens, size)
    again = triton.compile(source, target=NoGpu().get_current_target(), options=aot.source(start, 90)[1])
    assert again.hash == compiled.hash, (tokens, size)
    keys.append(aot.key(start, 90))
assert len(set(keys)) > 1
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_interpreter_that_compiles_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "INTERPRETED", True)
    with pytest.raises(typer.Exit) as exit_:
        command.main(compile_only=True)
    assert exit_.value.exit_code == 2
    told = capsys.readouterr()
    assert "TRITON_INTERPRET" in told.err
    assert told.out == ""


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


def test_with_a_gpu_it_compiles_checks_and_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gpu:
        def call(self, limit_s: float, function: Callable[..., Any], *_: Any) -> Any:
            assert 0 < limit_s <= 120
            return {"gpu_rates": RATES, "case_ms": 2.0, "peer_ms": 3.0}[function.__name__]

        def stop(self) -> None: ...

    asked = []

    def compile_all(targets: list[int], ops: list[str]) -> list[dict[str, Any]]:
        asked.append((targets, ops))
        return []

    monkeypatch.setattr(command, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command, "Worker", Gpu)
    monkeypatch.setattr(command, "compile_all", compile_all)
    monkeypatch.setattr(command, "run_checks", lambda *_: [Check("tests", True, "9 passed")])
    command.main(op=["norm"], timing_s=100.0, json_output=True)
    told = json.loads(capsys.readouterr().out)
    assert asked == [([90], ["norm"])]
    assert (told["rates"]["name"], told["checks"][0]["told"], told["ok"]) == ("a GPU", "9 passed", True)
    assert {row["ms"] for row in told["gpu"]} == {2.0}
    assert told["gpu"][0]["times_peer"] == {"torch": 1.5}


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


@pytest.mark.parametrize(
    ("asked", "peers", "reached", "met"),
    [
        (Asked(0.05), {}, 0.05, True),  # 10^9 bytes in 20 ms, of 10^12 a second
        (Asked(0.06), {}, 0.05, False),
        (Asked(1.5, of="SDPA"), {"SDPA slow": 60.0, "SDPA fast": 30.0, "fastest": 1.0}, 1.5, True),
        (Asked(1.6, of="SDPA"), {"SDPA slow": 60.0, "SDPA fast": 30.0, "fastest": 1.0}, 1.5, False),
        (Asked(1.0, of="SDPA"), {"fastest": 1.0}, None, None),
        (None, {"fastest": 1.0}, None, None),
    ],
)
def test_what_is_asked_is_met_or_missed(
    asked: Asked | None, peers: dict[str, float], reached: float | None, met: bool | None
) -> None:
    row = row_of(replace(CASE, asked=asked), RATES, ms=20.0, peers=peers)
    assert row["reached"] == (reached if reached is None else pytest.approx(reached))
    assert row["met"] is met
    assert row["asked"] == (str(asked) if asked else None)
    assert row_of(replace(CASE, asked=asked), RATES)["met"] is None


def not_installed(_: torch.device) -> Run:
    raise ImportError


class Here:
    """Calls in this process; `lost` are those that end it."""

    def __init__(self, lost: Collection[str] = ()) -> None:
        self.lost = lost
        self.stopped = 0

    def call(self, limit_s: float, function: Callable[..., Any], *args: Any) -> Any:
        assert limit_s > 0
        if args and args[0].module in self.lost:
            raise WorkerLostError("its process ended")
        return function(*args)

    def stop(self) -> None:
        self.stopped += 1


def test_a_case_or_a_peer_that_fails_costs_only_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = replace(CASE, make=lambda _: lambda: 20.0)
    peers = {"fast": lambda _: lambda: 10.0, "absent": not_installed, "broken": no_run}
    cases = {"a": replace(measured, peers=peers), "b": CASE, "c": measured, "d": measured}
    places = [Place(name, 0) for name in cases]
    monkeypatch.setattr(Place, "case", property(lambda place: cases[place.module]))
    monkeypatch.setattr(gpu_forms, "median_ms", lambda call, _: call())
    monkeypatch.setattr(gpu_forms, "gpu_works", lambda: False)
    first, second, third, fourth = time_all(places, RATES, here := Here(lost="c"), budget_s=100.0)
    assert (first["ok"], first["ms"], first["peers_ms"]) == (True, 20.0, {"fast": 10.0})
    assert "no absent: not installed" in first["error"]
    assert "no broken: AssertionError" in first["error"]
    assert (second["ok"], second["ms"]) == (False, None)
    assert second["error"].startswith("failed")
    assert (third["ok"], third["error"]) == (False, "failed: its process ended")
    assert fourth["ok"]
    assert here.stopped == 3  # after the case and both peers that failed, since the GPU did not work any more
    assert [row["error"] for row in time_all(places, RATES, Here(), budget_s=-1.0)] == [OUT_OF_TIME] * 4


def test_a_process_that_ends_or_never_answers_is_replaced() -> None:
    worker = Worker()
    with pytest.raises(WorkerLostError, match="ended"):
        worker.call(60.0, os._exit, 3)
    assert worker.call(60.0, abs, -3) == 3
    with pytest.raises(WorkerLostError, match="not finished"):
        worker.call(0.1, time.sleep, 60.0)
    worker.stop()


def test_files_of_tests_are_judged_by_how_they_end(tmp_path: Path) -> None:
    ends = {"test_good": "", "test_bad": "raise SystemExit(3)", "test_slow": "import time; time.sleep(60)"}
    files = [tmp_path / f"{name}.py" for name in ends]
    for file in files:
        file.write_text(ends[file.stem])
    good, bad, slow = files
    found = check_files("tests", [sys.executable], [good, bad], 100.0, {})
    assert found == Check("tests", False, "1 of 2 files passed; failed: test_bad")
    found = check_files("tests", [sys.executable], [slow], 0.2, {})
    assert found == Check("tests", True, "0 of 1 files passed; not finished in time: test_slow")


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
    assert "| norm | not measured |  |  |  | 0.40 of copy |  |  |  | small \\| case |" in text
    assert "0 met, 0 missed, 1 not measured" in text
    assert "2 variants of kernels, for sm_80, sm_90" in text
    assert "| norm | norm | 64/2/8 | 64/2/8 | small \\| case |" in text
    assert "| norm | ok | 1.0e-07 | 1.0e-06 | 1.500 | 3.000 | c |" in text


def test_a_page_with_a_gpu_says_which_and_what_was_checked() -> None:
    rows = [row_of(CASE, RATES, ms=20.0, peers={"torch": 30.0}), row_of(CASE, RATES, error="failed: no memory")]
    text = page.page(canned(gpu=rows, rates=RATES, checks=[Check("tests", True, "9 passed")]), [], "2026-01-31")
    assert "GPU: a GPU; copy: 1,000 GB/s read and written; bf16 product of 8192: 100 TFLOP/s; tests: 9 passed." in text
    assert "| norm | 20.0000 | 50% | 50 | 50 | 0.40 of copy | 0.05 | missed | torch 1.50 | small \\| case |" in text
    assert "0 met, 1 missed, 1 not measured" in text
    assert "- norm, small | case: failed: no memory" in text


def test_a_kernel_has_one_line_for_all_targets() -> None:
    (row,) = canned().kernels[:1]  # type: ignore[index]
    rows = [row | {"target": target, "registers": registers} for target, registers in ((80, 1), (80, 2), (90, 3))]
    rows.append(row | {"kernel": "_other", "target": 80, "ok": False, "registers": None})
    targets, lines = by_kernel(rows)
    assert targets == [80, 90]
    assert [[resources(found) for found in line[3]] for line in lines] == [
        ["1/2/8", "3/2/8"],
        ["2/2/8", "as above"],
        ["no", "as above"],
    ]


def test_one_thing_that_is_not_ok_spoils_all(capsys: pytest.CaptureFixture[str]) -> None:
    bad = canned(checks=[Check("tests", False, "1 failed")], gpu=[], rates=RATES)
    assert canned().ok
    assert not bad.ok
    assert as_object(bad)["checks"] == [{"name": "tests", "ok": False, "told": "1 failed"}]
    assert "gpu" not in as_object(canned())
    show_all(bad)
    assert "1 failed" in capsys.readouterr().out

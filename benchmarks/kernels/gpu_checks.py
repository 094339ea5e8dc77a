"""Whether kernels are right on this GPU: their tests, and NVIDIA's memory checker over those of Triton's forms.

A file of tests is a process, and many run at once: most of their time they compile.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import progress

_ROOT = Path(__file__).parents[2]
_TESTS = _ROOT / "tests/kernels"
_MOST_AT_ONCE = 12


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, or why it was not."""

    name: str
    ok: bool
    told: str


def run_checks(tests_s: float, sanitizer_s: float) -> list[Check]:
    """Takes at most the sum of both times, in seconds."""
    return [_tests(tests_s), _sanitizer(sanitizer_s)]


def check_files(
    name: str, command: Sequence[str], files: Sequence[Path], limit_s: float, settings: Mapping[str, str]
) -> Check:
    """Runs `command` with each file; ok if none failed. Those that were not finished in time are named."""
    progress.print(f"{name}, {len(files)} files")
    end = time.monotonic() + limit_s
    with ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        done = list(pool.map(lambda file: _exit_status([*command, str(file)], end, settings), files))
    failed = [file.stem for file, status in zip(files, done, strict=True) if status]
    unfinished = [file.stem for file, status in zip(files, done, strict=True) if status is None]
    told = f"{done.count(0)} of {len(files)} files passed"
    for what, found in (("failed", failed), ("not finished in time", unfinished)):
        told += f"; {what}: {', '.join(found)}" if found else ""
    return Check(name, not failed, told)


def _tests(limit_s: float) -> Check:
    command = [sys.executable, "-m", "pytest", "-q"]
    found = check_files("tests on the GPU", command, sorted(_TESTS.rglob("test_*.py")), limit_s, {})
    return found if "not finished" not in found.told else Check(found.name, ok=False, told=found.told)


def _sanitizer(limit_s: float) -> Check:
    """A file that is not finished in time is no error: the checker makes kernels tens of times slower."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return Check("compute-sanitizer", ok=True, told="not run: the tool is not on the PATH")
    command = [tool, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m", "pytest", "-q"]
    # Every tensor an allocation of its own: what leaves one that is part of a larger block can go unnoticed.
    settings = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return check_files("compute-sanitizer", command, sorted((_TESTS / "triton").glob("test_*.py")), limit_s, settings)


def _exit_status(command: Sequence[str], end: float, settings: Mapping[str, str]) -> int | None:
    """None if it did not end in time. torch's deterministic mode, which the tests use, needs the workspace."""
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **settings}
    environment.pop("TRITON_INTERPRET", None)
    limit_s = max(0.0, end - time.monotonic())
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        progress.print((done.stdout + done.stderr)[-2000:], markup=False)
    return done.returncode

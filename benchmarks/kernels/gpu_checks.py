"""Whether Triton's kernels are right on this GPU: their tests, and NVIDIA's memory checker over the same.

A file of tests is a process, and many run at once: most of their time they compile.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import progress

_ROOT = Path(__file__).parents[2]
_TESTS = _ROOT / "tests/kernels/triton"
_MOST_AT_ONCE = 16
# Warnings are errors there; this one is of torch's own, on machines that have the package.
_WARNING = "ignore:The pynvml package:FutureWarning"
_PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=0", "-W", _WARNING)
_SANITIZERS = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/local/cuda/bin"


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
    found = check_files("tests on the GPU", _PYTEST, sorted(_TESTS.glob("test_*.py")), limit_s, {})
    return found if "not finished" not in found.told else Check(found.name, ok=False, told=found.told)


def _sanitizer(limit_s: float) -> Check:
    """A file that is not finished in time is no error: the checker makes kernels tens of times slower."""
    tool = shutil.which("compute-sanitizer", path=_SANITIZERS)
    if tool is None:
        return Check("compute-sanitizer", ok=True, told="not run: the tool is not here")
    # Calls that fail are not reported: torch asks for much that a driver may lack, and takes no for an answer.
    command = [tool, "--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9", *_PYTEST]
    # Every tensor an allocation of its own: what leaves one that is part of a larger block can go unnoticed.
    settings = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return check_files("compute-sanitizer", command, sorted(_TESTS.glob("test_*.py")), limit_s, settings)


def _exit_status(command: Sequence[str], end: float, settings: Mapping[str, str]) -> int | None:
    """None if it did not end in time. torch's deterministic mode, which the tests use, needs the workspace."""
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "1", **settings}
    environment.pop("TRITON_INTERPRET", None)
    with tempfile.TemporaryFile() as told:
        # A session of its own, so that what the checker started ends with it and leaves the GPU to the timings.
        running = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdout=told, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = running.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(running)
        if status:
            told.seek(max(0, told.seek(0, os.SEEK_END) - 2000))
            progress.print(told.read().decode(errors="replace"), markup=False)
    return status


def _end(running: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()

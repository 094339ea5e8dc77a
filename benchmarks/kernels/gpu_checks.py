"""Whether kernels are right on this GPU: their tests, and NVIDIA's memory checker over the small sizes."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import progress

_ROOT = Path(__file__).parents[2]
_TESTS = "tests/kernels"
_SANITIZED = "tests/kernels/triton"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, or why it was not."""

    name: str
    ok: bool
    told: str


def run_checks(tests_s: float, sanitizer_s: float) -> list[Check]:
    """Takes at most the sum of both times, in seconds."""
    return [_tests(tests_s), _sanitizer(sanitizer_s)]


def _tests(limit_s: float) -> Check:
    progress.print(f"{_TESTS} on the GPU")
    return _checked("tests", [sys.executable, "-m", "pytest", _TESTS, "-q"], limit_s, {})


def _sanitizer(limit_s: float) -> Check:
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return Check("compute-sanitizer", ok=True, told="not run: the tool is not on the PATH")
    progress.print(f"compute-sanitizer over {_SANITIZED}")
    command = [tool, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m", "pytest", _SANITIZED, "-q"]
    # Every tensor an allocation of its own: one that is part of a larger block can be left unnoticed.
    return _checked("compute-sanitizer", [*command, "-x"], limit_s, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})


def _checked(name: str, command: list[str], limit_s: float, settings: dict[str, str]) -> Check:
    """Its last line; torch's deterministic mode, which the tests use, needs the workspace."""
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **settings}
    environment.pop("TRITON_INTERPRET", None)
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return Check(name, ok=False, told=f"not finished after {limit_s:.0f} s")
    if done.returncode:
        progress.print((done.stdout + done.stderr)[-4000:])
    return Check(name, done.returncode == 0, (done.stdout.strip().splitlines() or ["it said nothing"])[-1])

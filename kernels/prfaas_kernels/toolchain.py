"""Compiles the C++ kernels into a shared library, once per source, compiler and processor, and loads it.

Needs no torch; does not know what is in the library, nor who uses it.
"""

import hashlib
import platform
import subprocess
import tempfile
from ctypes import CDLL
from pathlib import Path

_SOURCES = Path(__file__).parent / "native"
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
_COMPILE_TIMEOUT_S = 120


class BuildError(Exception):
    """The kernels cannot be compiled here; says why."""


def load(directory: Path | None = None, compiler: str = "g++") -> CDLL:
    """The library, compiled into `directory` on first use (a few seconds), by default `~/.cache/prfaas_kernels`.

    Raises BuildError if there is no compiler or the result cannot be loaded.
    """
    path = build(directory or Path.home() / ".cache" / "prfaas_kernels", compiler)
    try:
        return CDLL(str(path))
    except OSError as error:
        raise BuildError(f"cannot load {path}: {error}") from error


def build(directory: Path, compiler: str) -> Path:
    """Path of the library in `directory`, compiled now unless one that fits is there. Raises BuildError."""
    try:
        version = _run([compiler, "--version"])
        library = directory / f"kernels-{_fingerprint(version)}.so"
        if not library.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _compile(library, compiler)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        raise BuildError(f"cannot compile kernels in {directory}: {error} {said}".rstrip()) from error
    return library


def _compile(library: Path, compiler: str) -> None:
    sources = [str(path) for path in sorted(_SOURCES.glob("*.cpp"))]
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        made = Path(scratch) / library.name
        _run([compiler, *_FLAGS, *sources, "-o", str(made)])
        made.replace(library)  # at once, since several processes may build the same library


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S)  # noqa: S603 - our own command
    return done.stdout


def _fingerprint(compiler_version: str) -> str:
    """Differs where a library built elsewhere would be wrong, as on a home directory shared between machines."""
    parts = [*_FLAGS, compiler_version, platform.machine(), _processor_features()]
    parts += [path.read_text() for path in sorted((*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor_features() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())

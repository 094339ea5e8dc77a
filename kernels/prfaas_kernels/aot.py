"""Compiles recorded launches for GPUs that are not there, and says what the result needs of one. Needs Triton."""

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from prfaas_kernels.launch import OPTIONS, Launch

TARGETS = (80, 90, 100)
"""Compute capabilities of A100, H100 and H200, B200."""
SHARED_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}
"""Shared memory that one block of threads may have."""

_TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
_GPU_NAMES = {80: "sm_80", 90: "sm_90a", 100: "sm_100a"}


class CompileError(RuntimeError):
    """A kernel does not compile for a target."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes."""

    registers: int
    """Per thread."""
    shared_bytes: int
    """Per block."""
    spill_bytes: int
    """Stores to memory for want of registers, per thread."""
    threads: int
    """Per block."""


def source(launch: Launch, target: int) -> tuple[ASTSource, dict[str, Any]]:
    """The source and options that Triton's JIT would compile: types, constants, what is 1 or a multiple of 16."""
    kernel, backend = launch.kernel, make_backend(_gpu(target))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    started = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, **OPTIONS, **launch.constants}
    started |= {"debug": kernel.debug or knobs.runtime.debug}
    started |= {"instrumentation_mode": knobs.compilation.instrumentation_mode}
    bound, specialised, _ = bind(*launch.arguments, **started)
    packed = kernel._pack_args(backend, started, bound, specialised, None)  # noqa: SLF001  the only way to be the same
    options, signature, constants, hints = packed
    return ASTSource(kernel, signature, constants, hints), dict(options.__dict__)


def key(launch: Launch, target: int) -> str:
    """The same for launches of one variant of a kernel, as Triton itself tells variants apart."""
    jit_source, options = source(launch, target)
    return hashlib.sha256(repr((jit_source.hash(), options)).encode()).hexdigest()


def compile_launch(launch: Launch, target: int) -> Resources:
    """Compiles what a recorded launch would have started, for compute capability `target`.

    On a machine with such a GPU it then starts without compiling: what Triton keeps on disk is found by the same name.
    Raises CompileError with the compiler's last words.
    """
    jit_source, options = source(launch, target)
    try:
        compiled = triton.compile(jit_source, target=_gpu(target), options=options)
    except Exception as error:
        raise CompileError(f"{launch.kernel.__name__} for sm_{target}: {str(error)[-500:]}") from error
    registers, spilled = _assembled(compiled.asm["ptx"], target)
    return Resources(registers, int(compiled.metadata.shared), spilled, 32 * int(compiled.metadata.num_warps))


def _gpu(target: int) -> GPUTarget:
    return GPUTarget("cuda", target, 32)


def _assembled(ptx: str, target: int) -> tuple[int, int]:
    """Registers and spilled bytes per thread, as the assembler says."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "kernel.ptx"
        source.write_text(ptx)
        command = [str(_TOOLS / "ptxas-blackwell"), "-v", f"--gpu-name={_GPU_NAMES[target]}", str(source)]
        done = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True, check=False)  # noqa: S603
    told = done.stdout + done.stderr
    if done.returncode != 0:
        raise CompileError(told[-500:])
    registers = max(int(found) for found in re.findall(r"Used (\d+) registers", told))
    return registers, sum(int(found) for found in re.findall(r"(\d+) bytes spill stores", told))

"""Compiles recorded launches for GPUs that are not there, and says what the result needs of one. Needs Triton."""

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from prfaas_kernels.launch import OPTIONS, Launch

TARGETS = (80, 90, 100)
"""Compute capabilities of A100, H100 and H200, B200."""
SHARED_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}
"""Shared memory that one block of threads may have."""

_TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
_GPU_NAMES = {80: "sm_80", 90: "sm_90a", 100: "sm_100a"}
_POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}
_ALIGNED = [["tt.divisibility", 16]]


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


def key(launch: Launch) -> str:
    """The same for launches of one variant of a kernel: types, constants and options; integers may be any."""
    named = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False))
    types = [(name, None if value is None else _type_of(value)) for name, value in named.items()]
    told = (launch.kernel.__module__, launch.kernel.__name__, types, sorted(launch.constants.items(), key=str))
    return hashlib.sha256(repr((told, launch.num_warps, launch.num_stages)).encode()).hexdigest()


def compile_launch(launch: Launch, target: int) -> Resources:
    """Compiles what a recorded launch would have started, for compute capability `target`.

    Raises CompileError with the compiler's last words.
    """
    signature, constants, hints = _specialised(launch)
    names = launch.kernel.arg_names
    source = ASTSource(
        fn=launch.kernel,
        signature={name: signature[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): _ALIGNED for name in hints},
    )
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, **OPTIONS}
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    except Exception as error:
        raise CompileError(f"{launch.kernel.__name__} for sm_{target}: {str(error)[-500:]}") from error
    registers, spilled = _assembled(compiled.asm["ptx"], target)
    return Resources(registers, int(compiled.metadata.shared), spilled, 32 * int(compiled.metadata.num_warps))


def _specialised(launch: Launch) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Types of all arguments, values of constants, which arguments are multiples of 16: as Triton's own JIT has it."""
    types: dict[str, str] = {}
    constants, hints = dict(launch.constants), []
    named = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False))
    assert not named.keys() & constants.keys(), "an argument is given twice"
    general = {parameter.name for parameter in launch.kernel.params if parameter.do_not_specialize}
    for name, value in named.items():
        if value is None or (type(value) is int and value == 1 and name not in general):
            constants[name] = value
            continue
        types[name] = _type_of(value)
        if isinstance(value, Tensor) or (type(value) is int and value % 16 == 0 and name not in general):
            hints.append(name)
    return types | dict.fromkeys(constants, "constexpr"), constants, hints


def _type_of(value: object) -> str:
    match value:
        case Tensor():
            return _POINTERS[value.dtype]
        case bool():
            return "i1"
        case int():
            return "i32" if -(2**31) <= value < 2**31 else "i64"
        case float():
            return "fp32"
        case _:
            raise TypeError(f"a kernel cannot be given {type(value).__name__} at run time; make it a constexpr")


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

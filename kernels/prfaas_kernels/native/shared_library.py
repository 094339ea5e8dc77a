"""Which compiled library this process uses, if any; does not know what is in it."""

from collections.abc import Callable
from ctypes import CDLL, c_char_p, c_int
from pathlib import Path

import torch
from torch import Tensor

from prfaas_kernels.toolchain import load

Kernel = Callable[[bytes, int], object]

_loaded: list[CDLL] = []  # empty or one: a process has one set of kernels, as it has one torch
_kernels: dict[str, Kernel] = {}  # those called so far: ctypes takes microseconds to look one up


def enable(directory: Path | None = None, compiler: str = "g++") -> None:
    """Lets the ops of this process use compiled kernels from now on; they use torch alone until then.

    Compiles them on first use (a few seconds) into `directory`, by default `~/.cache/prfaas_kernels`. Raises
    BuildError if there is no compiler or the result cannot be loaded; ops then keep to torch.
    """
    library = load(directory, compiler)
    _kernels.clear()
    _loaded[:] = [library]


def disable() -> None:
    """Ops use torch alone again."""
    _kernels.clear()
    _loaded.clear()


def active() -> bool:
    """Whether ops of this process use compiled kernels."""
    return bool(_loaded)


def takes(*tensors: Tensor) -> bool:
    """Whether compiled kernels are enabled and can read these tensors: on CPU, fp32 or bf16, dense in the last dim."""
    if not _loaded:
        return False
    for x in tensors:  # a plain loop: this is asked before every call, and a decode step makes dozens
        known = x.dtype is torch.bfloat16 or x.dtype is torch.float32
        if not (known and x.is_cpu and (x.is_contiguous() or x.stride(-1) == 1 or x.shape[-1] == 1)):
            return False
    return True


def call(kernel: str, arguments: bytes) -> None:
    """Runs a kernel of the library, which must be enabled, on as many threads as torch uses.

    `arguments` mirror the C struct that the kernel reads; the tensors that they point to must outlive the call.
    """
    run = _kernels.get(kernel) or _find(kernel)
    run(arguments, torch.get_num_threads())


def _find(kernel: str) -> Kernel:
    assert _loaded, "ask `takes` first"
    found = _loaded[0][kernel]
    found.argtypes, found.restype = (c_char_p, c_int), None
    return _kernels.setdefault(kernel, found)

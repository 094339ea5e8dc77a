"""How Triton kernels are started, and how their starts are recorded for compilation without a GPU. Needs Triton."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether kernels run in Triton's interpreter, on CPU tensors (TRITON_INTERPRET=1 when this process started)."""

OPTIONS = {"enable_fp_fusion": True}
"""Of every kernel, beside its warps and stages."""

_one_at_a_time = Lock() if INTERPRETED else nullcontext()  # the interpreter keeps its place in the grid in globals
_LARGEST_GRID = (2**31 - 1, 65_535, 65_535)  # a GPU refuses more, the interpreter does not
_MULTIPROCESSORS = {80: 108, 90: 132, 100: 148}  # of A100, H200, B200


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a kernel as it was asked for: what a compiler has to know of it."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    num_warps: int
    num_stages: int


@dataclass(slots=True)
class _Recording:
    capability: int
    launches: list[Launch]


_recordings: list[_Recording] = []


@contextmanager
def recorded(capability: int) -> Iterator[list[Launch]]:
    """Has `launch` start nothing and list what it was asked for, as on a GPU of this compute capability (80, 90, 100).

    Tensors may be on torch's meta device: no memory, any size.
    """
    recording = _Recording(capability, [])
    _recordings.append(recording)
    try:
        yield recording.launches
    finally:
        _recordings.pop()


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, num_stages: int = 3, **constants: Any
) -> None:
    """Starts `kernel` on `grid` with its runtime arguments in order and its constexprs by name.

    An empty grid starts nothing. All launches go through here, so what is compiled ahead of time is what runs.
    """
    assert all(size <= most for size, most in zip(grid, _LARGEST_GRID, strict=False)), f"{kernel}: a grid of {grid}"
    if _recordings:
        _recordings[-1].launches.append(Launch(kernel, grid, arguments, constants, num_warps, num_stages))
    elif all(grid):
        with _one_at_a_time:
            kernel[grid](*arguments, num_warps=num_warps, num_stages=num_stages, **OPTIONS, **constants)


def capability(x: Tensor) -> int:
    """Of the GPU that holds `x`, e.g. 90 for an H200; of the recorded target; 90 in the interpreter."""
    if _recordings:
        return _recordings[-1].capability
    if not x.is_cuda:
        return 90
    return _of_gpu(x.device)[0]


def multiprocessors(x: Tensor) -> int:
    """Of the GPU that holds `x`: what a grid should fill."""
    if x.is_cuda and not _recordings:
        return _of_gpu(x.device)[1]
    return _MULTIPROCESSORS[capability(x)]


@functools.cache
def _of_gpu(device: torch.device) -> tuple[int, int]:
    """Its compute capability and multiprocessors, asked for once: every launch needs them."""
    found = torch.cuda.get_device_properties(device)
    return 10 * int(found.major) + int(found.minor), int(found.multi_processor_count)


def dot_type(dtype: torch.dtype) -> tl.dtype:
    """What a kernel converts tiles of this dtype to before `tl.dot`: the same; fp32 in the interpreter.

    Arithmetic on bfloat16 is silently wrong there.
    """
    if INTERPRETED or dtype is torch.float32:
        return tl.float32
    return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype]


def block(size: int, smallest: int = 16) -> int:
    """The power of two that covers `size`, at least what `tl.dot` takes."""
    return max(smallest, int(triton.next_power_of_2(size)))

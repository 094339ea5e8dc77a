"""Which form of an op runs: Triton's where the first argument is on a GPU, else the CPU's. Knows no op."""

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar, cast

from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_forced: list[bool] = []  # what `triton_kernels` asked for; empty outside of it


class MissingTritonError(RuntimeError):
    """A tensor is on a GPU and Triton is not installed."""


def uses_triton(x: Tensor) -> bool:
    """Whether ops take their Triton form for this tensor."""
    return x.is_cuda or bool(_forced)


@contextmanager
def triton_kernels() -> Iterator[None]:
    """Has ops take their Triton form wherever their tensors are: for Triton's interpreter, and to record launches."""
    _forced.append(True)
    try:
        yield
    finally:
        _forced.pop()


def dispatched(cpu: Callable[P, R]) -> Callable[P, R]:
    """An op: `cpu`, or for GPU tensors the function of the same name and signature in the `triton` module beside it.

    The first argument decides; it is a tensor, and passed by position. The Triton form is imported on first use, so
    nothing here needs Triton to be installed on a machine without a GPU; with one, MissingTritonError says so.
    """
    package = cpu.__module__.rpartition(".")[0]

    @functools.cache
    def on_gpu() -> Callable[P, R]:
        try:
            module = importlib.import_module(f"{package}.triton")
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            raise MissingTritonError("tensors on a GPU need Triton: pip install 'prfaas[gpu]'") from error
        return cast("Callable[P, R]", getattr(module, cpu.__name__))

    @functools.wraps(cpu)
    def op(*args: P.args, **kwargs: P.kwargs) -> R:
        if uses_triton(cast("Tensor", args[0])):
            return on_gpu()(*args, **kwargs)
        return cpu(*args, **kwargs)

    return op

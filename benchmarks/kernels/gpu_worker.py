"""A process that computes on the GPU for another and can be replaced: a kernel can break its context, or never end.

Knows nothing of kernels.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")


class WorkerLostError(RuntimeError):
    """The process did not answer in time, or ended."""


class Worker:
    """Starts with the first call; starts again with the call after one that lost it."""

    def __init__(self) -> None:
        self._running: tuple[multiprocessing.process.BaseProcess, Connection] | None = None

    def call(self, limit_s: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `function`, which raises nothing, returns there. Raises WorkerLostError."""
        _, pipe = self._running = self._running or _started()
        pipe.send((function, args, kwargs))
        try:
            if pipe.poll(limit_s):
                return cast("R", pipe.recv())
        except EOFError as error:
            self.stop()
            raise WorkerLostError("its process ended") from error
        self.stop()
        raise WorkerLostError(f"not finished in {limit_s:.0f} s")

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        if self._running:
            process, pipe = self._running
            process.kill()
            process.join()
            pipe.close()
        self._running = None


def gpu_works() -> bool:
    """Whether this process can still compute on its GPU: after a fault it never can."""
    try:
        return torch.ones(1, device="cuda").item() == 1.0
    except RuntimeError:
        return False


def _started() -> tuple[multiprocessing.process.BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(pipe: Connection) -> None:
    while True:
        function, args, kwargs = pipe.recv()
        pipe.send(function(*args, **kwargs))

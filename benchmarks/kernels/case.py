"""What is compiled and timed: an op at the size that a model has it in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Run = Callable[[], object]
Make = Callable[[torch.device], Run]
"""Puts inputs on a device, the meta device included, and returns the call that is timed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a case is to reach: a share of what the GPU copies, or of the speed of the fastest of some peers."""

    ratio: float
    of: str = "copy"
    """"copy", or how the names of the peers begin."""

    def __str__(self) -> str:
        return f"{self.ratio:.2f} of {self.of}"


@dataclass(frozen=True, slots=True)
class Case:
    """An op through its public function, at one production size."""

    op: str
    """Its folder in `prfaas_kernels`."""
    name: str
    """Model and size, for people."""
    make: Make
    bytes_moved: int
    """That the op cannot avoid to read and write: the floor where memory decides."""
    operations: int = 0
    """Multiplications and additions of matrix products that it cannot avoid: the floor where arithmetic decides."""
    peers: Mapping[str, Make] = field(default_factory=dict)
    """The same work by others; those that raise ImportError are left out by name."""
    asked: Asked | None = None
    timed: bool = True
    """False: only compiled, since no single GPU could hold it."""


@dataclass(frozen=True, slots=True)
class CpuCase:
    """An op's CPU form beside its reference, on the same inputs."""

    op: str
    name: str
    run: Callable[[], Tensor]
    reference: Callable[[], Tensor]
    tolerance: float
    """Largest error ratio."""

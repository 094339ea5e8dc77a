"""The tensor-parallel group that one copy of the decoder belongs to. Knows no layers."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Ranks(Protocol):
    """`size` processes that hold one slice each of the same model; all of them call everything in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, x: Tensor) -> Tensor:
        """The sum of all ranks' `x`; may overwrite it."""
        ...

    def join(self, x: Tensor) -> Tensor:
        """All ranks' `x` [..., N] one after another, [..., size * N]."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """A group of one."""

    rank: int = 0
    size: int = 1

    def sum(self, x: Tensor) -> Tensor:
        return x

    def join(self, x: Tensor) -> Tensor:
        return x


ALONE = Alone()

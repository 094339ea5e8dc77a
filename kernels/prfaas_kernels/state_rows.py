"""Where the rows of one state of some sequences lie, before and after a call; they are read and written there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas_kernels.pages import gather_rows, scatter_rows


@dataclass(frozen=True, slots=True)
class StateRows:
    """The n rows of a state of each of S sequences, in memory that they share with everything else that is cached."""

    arena: Tensor
    """[bytes] uint8"""
    read: Tensor
    """[S, n] int64: bytes at which the rows begin, multiples of 64. Not read where a sequence has no context."""
    written: Tensor
    """[S, n] int64: where the rows go. May be the same tensor; no row of one sequence is another's."""
    parts: tuple[tuple[int, int], ...]
    """Elements [start, stop) of every row that make up this rank's share, one after another."""
    dims: tuple[int, ...]
    """Of the share of a row; its elements are `prod(dims)`."""
    dtype: torch.dtype

    def load(self, sequence: int, context: int) -> Tensor:
        """A copy of a sequence's rows, [n, *dims]; zeros where it has no `context`."""
        if context == 0:
            return torch.zeros(self.read.shape[1], *self.dims, dtype=self.dtype, device=self.arena.device)
        return self._gather(self.read[sequence])

    def load_all(self) -> Tensor:
        """A copy of all rows, [S, n, *dims]."""
        return self._gather(self.read)

    def store(self, sequence: int, value: Tensor) -> None:
        """Writes a sequence's rows, `value` [n, *dims]."""
        self._scatter(self.written[sequence], value)

    def store_all(self, value: Tensor) -> None:
        """Writes all rows, `value` [S, n, *dims]."""
        self._scatter(self.written, value)

    def store_one(self, rows: Tensor, value: Tensor) -> None:
        """Writes one row of each sequence: `rows` [S] below n, `value` [S, *dims]."""
        self._scatter(self.written.gather(1, rows[:, None]), value[:, None])

    def _gather(self, rows: Tensor) -> Tensor:
        found = [gather_rows(self.arena, rows, stop - start, self.dtype, start) for start, stop in self.parts]
        return torch.unflatten(found[0] if len(found) == 1 else torch.cat(found, dim=-1), -1, self.dims)

    def _scatter(self, rows: Tensor, value: Tensor) -> None:
        flat = value.flatten(rows.dim())
        widths = [stop - start for start, stop in self.parts]
        for (start, _), part in zip(self.parts, torch.split(flat, widths, dim=-1), strict=True):
            scatter_rows(self.arena, rows, part, start)

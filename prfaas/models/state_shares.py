"""Which bytes of the rows of all states are one rank's: what a copy of states moves. Knows no request."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.models.state_tensor import StateTensor
from prfaas_kernels.pages import copy_rows


@dataclass(frozen=True, slots=True)
class StateShares:
    """M ranges of bytes, each within a row."""

    columns: Tensor
    """[M] int64: which row, of all rows of the model."""
    starts: Tensor
    """[M] int64: bytes into it."""
    widths: Tensor
    """[M] int64: bytes."""
    longest: int

    @classmethod
    def of(cls, states: Sequence[StateTensor], device: torch.device) -> "StateShares":
        """Of all that these tensors hold."""
        ranges = [
            (column, start * state.dtype.itemsize, (stop - start) * state.dtype.itemsize)
            for state in states
            for column in range(*state.columns)
            for start, stop in state.parts
        ]
        table = torch.tensor(ranges, dtype=torch.int64, device=device).view(-1, 3)
        columns, starts, widths = table.T.contiguous()
        return cls(columns, starts, widths, max((width for _, _, width in ranges), default=0))

    def copy(self, arena: Tensor, read: Tensor, written: Tensor) -> None:
        """Copies the states of n sequences in `arena` from the rows at offsets `read` to `written`, [n, R] each."""
        copy_rows(arena, self._places(read), self._places(written), self.widths, self.longest)

    def _places(self, rows: Tensor) -> Tensor:
        return rows.index_select(1, self.columns).add_(self.starts)

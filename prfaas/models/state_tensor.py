"""A state tensor in the pages of a cache: which rows are its, in a batch's table. Knows no layer."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prfaas_kernels.state_rows import StateRows

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class StateTensor:
    """The n rows of one state tensor of one layer, or one rank's share of them."""

    arena: Tensor
    """[bytes] uint8: all pages."""
    columns: Range
    """Its rows are columns [first, stop) of tables of row offsets, [..., all rows of the model]."""
    dims: tuple[int, ...]
    """Of the share of one row."""
    dtype: torch.dtype
    parts: tuple[Range, ...]
    """Ranges of a whole row's elements that make up the share, one after another."""

    def at(self, offsets: Tensor) -> Tensor:
        """The byte offsets of its rows, a view [..., n] of `offsets` [..., all rows]."""
        return offsets[..., self.columns[0] : self.columns[1]]

    def rows(self, read: Tensor, written: Tensor) -> StateRows:
        """Its rows of S sequences, whose tables of offsets before and after a step are [S, all rows]."""
        return StateRows(self.arena, self.at(read), self.at(written), self.parts, self.dims, self.dtype)

    def narrow_rows(self, first: int, stop: int) -> "StateTensor":
        """Its rows [first, stop)."""
        start = self.columns[0]
        return replace(self, columns=(start + first, start + stop))

    def narrow_each_row(self, dims: tuple[int, ...], parts: tuple[Range, ...]) -> "StateTensor":
        """These elements of every row, as `dims`."""
        return replace(self, dims=dims, parts=parts)

"""A state tensor in the pages of a cache: reads and writes its rows where a batch's table says. Knows no layer."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prfaas_kernels.pages import gather_rows, scatter_rows

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

    def read(self, offsets: Tensor | None) -> Tensor:
        """A copy of the rows, [..., n, *dims]; zeros [n, *dims] where nothing has been written yet (None)."""
        if offsets is None:
            rows = self.columns[1] - self.columns[0]
            return torch.zeros(rows, *self.dims, dtype=self.dtype, device=self.arena.device)
        return self._gather(self.at(offsets))

    def write(self, offsets: Tensor, value: Tensor) -> None:
        """Stores all rows: `value` [..., n, *dims]."""
        self._scatter(self.at(offsets), value)

    def write_row(self, offsets: Tensor, rows: Tensor, value: Tensor) -> None:
        """Stores one row of each of B sequences: `rows` [B] below n, `value` [B, *dims]."""
        self._scatter(self.at(offsets).gather(1, rows[:, None]), value[:, None])

    def narrow_rows(self, first: int, stop: int) -> "StateTensor":
        """Its rows [first, stop)."""
        start = self.columns[0]
        return replace(self, columns=(start + first, start + stop))

    def narrow_each_row(self, dims: tuple[int, ...], parts: tuple[Range, ...]) -> "StateTensor":
        """These elements of every row, as `dims`."""
        return replace(self, dims=dims, parts=parts)

    def _gather(self, rows: Tensor) -> Tensor:
        found = [gather_rows(self.arena, rows, stop - start, self.dtype, start) for start, stop in self.parts]
        return torch.unflatten(found[0] if len(found) == 1 else torch.cat(found, dim=-1), -1, self.dims)

    def _scatter(self, rows: Tensor, value: Tensor) -> None:
        flat = value.flatten(rows.dim())
        widths = [stop - start for start, stop in self.parts]
        for (start, _), part in zip(self.parts, torch.split(flat, widths, dim=-1), strict=True):
            scatter_rows(self.arena, rows, part, start)

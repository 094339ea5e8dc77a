"""Where the rows of all state tensors lie, once the pages of a request are known. Knows neither layers nor memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.cache.layout import PageLayout


@dataclass(frozen=True, slots=True)
class RowTable:
    """Every row of a model's state tensors, R in all, in canonical order: by layer, tensor and row."""

    pages: Tensor
    """[R] int64: which of the request's state pages."""
    offsets: Tensor
    """[R] int64: bytes into it."""
    page_bytes: int

    @classmethod
    def of(cls, layout: PageLayout, device: torch.device | str = "cpu") -> "RowTable":
        """The table of a layout, for pages on `device`."""
        places = [(place.page, place.offset) for layer in layout.rows for tensor in layer for place in tensor]
        pages, offsets = torch.tensor(places, dtype=torch.int64, device=device).view(-1, 2).T.contiguous()
        return cls(pages, offsets, layout.page_bytes)

    def resolve(self, state_pages: Tensor) -> Tensor:
        """`state_pages` [B, pages of a state] int64 to the byte offsets of all rows in the arena, [B, R]."""
        return (state_pages * self.page_bytes).index_select(1, self.pages).add_(self.offsets)

"""Cache memory as rows by page, so that a test can see which row of which page was read or written."""

from collections.abc import Sequence

from prfaas.core.shape import ModelShape
from prfaas.engine.memory import CacheMemory

Place = tuple[int, int, int, int]
"""Page, layer, tensor, row: within the page if the layer is paged, else of the whole state."""


class PagedMemory(CacheMemory):
    """Pages of `page_tokens` tokens of all paged layers; the rows of a state go round its pages."""

    def __init__(self, shape: ModelShape, page_tokens: int) -> None:
        self._shape = shape
        self._page_tokens = page_tokens
        self.rows: dict[Place, bytearray] = {}
        """Every row that was ever touched; all others are zeros."""

    def spans(
        self, layer: int, tensor: int, start: int, end: int, pages: Sequence[int], state_pages: Sequence[int]
    ) -> list[memoryview]:
        return [memoryview(self._row(layer, tensor, row, pages, state_pages)) for row in range(start, end)]

    def _row(self, layer: int, tensor: int, row: int, pages: Sequence[int], state_pages: Sequence[int]) -> bytearray:
        cache = self._shape.layers[layer]
        if cache.paged:
            place = pages[row // self._page_tokens], layer, tensor, row % self._page_tokens
        else:
            place = state_pages[row % len(state_pages)], layer, tensor, row
        return self.rows.setdefault(place, bytearray(cache.row_bytes(tensor)))

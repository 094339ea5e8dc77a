"""The instance's cache memory as bytes: where each token's entries and each state lie, in the wire's canonical order.

Canonical: for a paged layer the entries of consecutive tokens, for a state layer the whole state; in both, the tensor's
own row-major order. A sender gathers from these views, a receiver scatters into them; neither makes a copy of its own.
"""

from collections.abc import Sequence

from prfaas.cache.layout import CacheLayout
from prfaas.core.shape import ModelShape


class CacheMemory:
    """Byte views of a cache that `layout` describes and `memory` holds; whoever computes has its tensors there."""

    def __init__(self, shape: ModelShape, layout: CacheLayout, memory: memoryview) -> None:
        assert memory.nbytes >= layout.num_bytes
        self._shape = shape
        self._layout = layout
        self._memory = memory

    def spans(self, layer: int, tensor: int, start: int, end: int, pages: Sequence[int], slot: int) -> list[memoryview]:
        """The bytes of rows [start, end) of a request that holds `pages` and `slot`, in canonical order."""
        region = self._layout.layers[layer][tensor]
        row_bytes = self._shape.layers[layer].row_bytes(tensor)
        if not self._shape.layers[layer].paged:
            return [self._rows(region.place(slot), start, end, row_bytes)]
        found, page_tokens = [], self._layout.page_tokens
        for page_index in range(start // page_tokens, -(-end // page_tokens)):
            first = page_index * page_tokens
            low, high = max(start, first) - first, min(end - first, page_tokens)
            found.append(self._rows(region.place(pages[page_index]), low, high, row_bytes))
        return found

    def _rows(self, place: int, low: int, high: int, row_bytes: int) -> memoryview:
        return self._memory[place + low * row_bytes : place + high * row_bytes]

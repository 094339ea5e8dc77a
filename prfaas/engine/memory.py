"""The instance's cache memory as bytes: where each token's entries and each state lie, in the wire's canonical order.

Canonical: for a paged layer the entries of consecutive tokens, for a state layer the whole state; in both, the tensor's
own row-major order. A sender gathers from these views, a receiver scatters into them; neither makes a copy of its own.
"""

from collections.abc import Iterable, Iterator, Sequence

from prfaas.cache.layout import PageLayout
from prfaas.core.shape import ModelShape

Extent = tuple[int, int]
"""Bytes [start, stop) of the memory."""


class CacheMemory:
    """Byte views of the pages in `memory`, which `layout` describes; whoever computes has its tensors there."""

    def __init__(self, shape: ModelShape, layout: PageLayout, memory: memoryview) -> None:
        self._shape = shape
        self._layout = layout
        self._memory = memory

    @property
    def page_bytes(self) -> int:
        """Of every page."""
        return self._layout.page_bytes

    @property
    def page_tokens(self) -> int:
        """Of a page that holds KV."""
        return self._layout.page_tokens

    @property
    def memory(self) -> memoryview:
        """All pages, one after the other."""
        return self._memory

    def tensor_offset(self, layer: int, tensor: int) -> int:
        """Bytes of a page before the entries of a paged layer's tensor; these are dense."""
        return self._layout.offsets[layer][tensor]

    def row_offsets(self, layer: int, tensor: int, start: int, end: int, state_pages: Sequence[int]) -> list[int]:
        """Bytes of `memory` before each of the rows [start, end) of a state layer's tensor."""
        rows = self._layout.rows[layer][tensor][start:end]
        return [self._page_start(state_pages[row.page]) + row.offset for row in rows]

    def page(self, page_id: int) -> memoryview:
        """A whole page, whatever it holds."""
        return self._view((self._page_start(page_id), self._page_start(page_id + 1)))

    def spans(
        self, layer: int, tensor: int, start: int, end: int, pages: Sequence[int], state_pages: Sequence[int]
    ) -> list[memoryview]:
        """The bytes of rows [start, end) of a request that holds `pages` and `state_pages`, in canonical order.

        Rows are tokens where the layer is paged. What is adjacent in memory is one view.
        """
        row_bytes = self._shape.layers[layer].row_bytes(tensor)
        if self._shape.layers[layer].paged:
            found = self._tokens(self._layout.offsets[layer][tensor], row_bytes, start, end, pages)
        else:
            found = ((at, at + row_bytes) for at in self.row_offsets(layer, tensor, start, end, state_pages))
        return [self._view(extent) for extent in _joined(found)]

    def _tokens(self, offset: int, row_bytes: int, start: int, end: int, pages: Sequence[int]) -> Iterator[Extent]:
        page_tokens = self._layout.page_tokens
        for index in range(start // page_tokens, -(-end // page_tokens)):
            first, at = index * page_tokens, self._page_start(pages[index]) + offset
            low, high = max(start, first) - first, min(end - first, page_tokens)
            yield at + low * row_bytes, at + high * row_bytes

    def _page_start(self, page_id: int) -> int:
        return page_id * self._layout.page_bytes

    def _view(self, extent: Extent) -> memoryview:
        start, stop = extent
        assert 0 <= start <= stop <= self._memory.nbytes
        return self._memory[start:stop]


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    joined: list[Extent] = []
    for start, stop in extents:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined

"""The instance's cache memory as bytes: where each token's entries and each state lie, in the wire's canonical order.

Canonical: for a paged layer the entries of consecutive tokens, for a state layer the whole state; in both, the tensor's
own row-major order. A sender gathers from these views, a receiver scatters into them; neither makes a copy of its own.
"""

from collections.abc import Sequence

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
            found = [(at, at + row_bytes) for at in self.row_offsets(layer, tensor, start, end, state_pages)]
        return [self._view(extent) for extent in _joined(found)]

    def _tokens(self, offset: int, row_bytes: int, start: int, end: int, pages: Sequence[int]) -> list[Extent]:
        if start == end:
            return []
        page_tokens, page_bytes = self._layout.page_tokens, self._layout.page_bytes
        first, last = start // page_tokens, (end - 1) // page_tokens
        whole = page_tokens * row_bytes
        starts = [page * page_bytes + offset for page in pages[first : last + 1]]
        found = [(at, at + whole) for at in starts]
        # Only the first and the last page may hold other rows too.
        found[-1] = found[-1][0], starts[-1] + (end - last * page_tokens) * row_bytes
        found[0] = starts[0] + (start - first * page_tokens) * row_bytes, found[0][1]
        return found

    def _page_start(self, page_id: int) -> int:
        return page_id * self._layout.page_bytes

    def _view(self, extent: Extent) -> memoryview:
        start, stop = extent
        assert 0 <= start <= stop <= self._memory.nbytes
        return self._memory[start:stop]


def _joined(extents: Sequence[Extent]) -> list[Extent]:
    joined: list[Extent] = []
    end = -1
    for start, stop in extents:
        if start == end:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
        end = stop
    return joined

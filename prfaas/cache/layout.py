"""What lies where in a page: a block of KV, or some rows of a request's states. Knows offsets, not the memory.

All pages are of one size and from one pool. A page of KV holds one block of tokens of all paged layers; the rows of all
state tensors of a request are packed into a fixed number of pages.
"""

from dataclasses import dataclass

from prfaas.cache.packing import pack
from prfaas.core.shape import LayerCache, ModelShape

ALIGNMENT_BYTES = 64
"""One line of a processor's cache, and more than any tensor's element needs."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row of a state tensor lies: in which of the request's state pages, and how many bytes into it."""

    page: int
    offset: int


@dataclass(frozen=True, slots=True)
class PageLayout:
    """By layer and, within it, in the order of `LayerCache.tensors`; what does not apply to a layer is empty."""

    page_tokens: int
    page_bytes: int
    state_pages: int
    """Pages that the states of one request take; 0 for a model without any."""
    offsets: tuple[tuple[int, ...], ...]
    """Of a paged layer's tensors: where each one's entries begin in a page, [page_tokens, *dims]."""
    rows: tuple[tuple[tuple[RowPlace, ...], ...], ...]
    """Of a state layer's tensors: the place of every row. No row straddles two pages."""

    def num_bytes(self, num_pages: int) -> int:
        """The memory of a pool of so many pages."""
        return num_pages * self.page_bytes


def lay_out(shape: ModelShape, page_tokens: int) -> PageLayout:
    """A page has room for `page_tokens` tokens of all paged layers, and for the largest row of any state tensor."""
    offsets, end = [], 0
    for layer in shape.layers:
        starts = []
        for tensor in layer.tensors if layer.paged else ():
            starts.append(end)
            end = _aligned(end + page_tokens * tensor.num_bytes)
        offsets.append(tuple(starts))
    sizes = [[_row_sizes(layer, i) for i in range(len(layer.tensors))] for layer in shape.layers]
    flat = [size for layer in sizes for tensor in layer for size in tensor]
    page_bytes = max([end, *flat])
    places = pack(flat, page_bytes)
    ordered = iter(places)
    return PageLayout(
        page_tokens=page_tokens,
        page_bytes=page_bytes,
        state_pages=max((page + 1 for page, _ in places), default=0),
        offsets=tuple(offsets),
        rows=tuple(tuple(tuple(RowPlace(*next(ordered)) for _ in tensor) for tensor in layer) for layer in sizes),
    )


def waste(shape: ModelShape, page_tokens: int, tokens: int = 0) -> float:
    """The share of a request's pages, in bytes, that holds nothing: pages of its states and of `tokens` tokens."""
    layout = lay_out(shape, page_tokens)
    taken = layout.num_bytes(layout.state_pages + (-(-tokens // page_tokens) if shape.paged_layers else 0))
    return 1 - shape.cache_bytes(tokens) / taken if taken else 0.0


def _row_sizes(layer: LayerCache, tensor: int) -> list[int]:
    return [] if layer.paged else [_aligned(layer.row_bytes(tensor))] * layer.num_rows(tensor, 0)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

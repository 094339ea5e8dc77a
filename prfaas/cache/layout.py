"""Where every page and slot of an instance's cache lies in one block of memory. Knows offsets, not the memory.

The block holds the whole model in canonical order, so that processes which each compute a part of it can map the same
block and use strided views of their share, while what travels stays the same.
"""

from dataclasses import dataclass

from prfaas.core.shape import LayerCache, ModelShape

ALIGNMENT_BYTES = 64
"""One line of a processor's cache, and more than any tensor's element needs."""


@dataclass(frozen=True, slots=True)
class Region:
    """One cached tensor: `places` pages or slots of `place_bytes` each, one after another from `offset` on."""

    offset: int
    places: int
    place_bytes: int

    @property
    def end(self) -> int:
        return self.offset + self.places * self.place_bytes

    def place(self, index: int) -> int:
        """The offset of one page or slot."""
        return self.offset + index * self.place_bytes


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Regions of all layers' tensors, in the order of `LayerCache.tensors`; together they need `num_bytes`."""

    page_tokens: int
    layers: tuple[tuple[Region, ...], ...]
    num_bytes: int


def lay_out(shape: ModelShape, num_pages: int, num_slots: int, page_tokens: int) -> CacheLayout:
    """`num_pages` pages per paged layer and `num_slots` requests per state layer, each tensor aligned."""
    layers, end = [], 0
    for layer in shape.layers:
        places, per_place = (num_pages, page_tokens) if layer.paged else (num_slots, 1)
        regions = _regions(layer, places, per_place, end)
        end = regions[-1].end
        layers.append(regions)
    return CacheLayout(page_tokens, tuple(layers), end)


def _regions(layer: LayerCache, places: int, entries_per_place: int, start: int) -> tuple[Region, ...]:
    regions: list[Region] = []
    for tensor in layer.tensors:
        offset = -(-start // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        regions.append(Region(offset, places, entries_per_place * tensor.num_bytes))
        start = regions[-1].end
    return tuple(regions)

"""What lies in an emulated engine's pages: bytes that follow from all tokens up to theirs, so that they can be checked.

Knows no requests and no time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prfaas.cache.layout import PageLayout
from prfaas.core.shape import ModelShape
from prfaas.engine.emulated.chain import Numbers, mixed

Bytes = NDArray[np.uint8]
Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Of tokens: pages, and slots in them."""
_NUMBER_BYTES = 8


class EmulatedPages:
    """Writes and checks tokens' entries and states in the memory that all pages share."""

    def __init__(self, shape: ModelShape, layout: PageLayout, memory: memoryview) -> None:
        self._shape = shape
        self._page_tokens = layout.page_tokens
        self._pages: Bytes = np.frombuffer(memory, dtype=np.uint8).reshape(-1, layout.page_bytes)
        self._entries = {
            layer: _entries(self._pages, layout.offsets[layer][0], layout.page_tokens, shape.layers[layer].row_bytes(0))
            for layer in shape.paged_layers
        }
        self._states = [_Rows(layout, layer, shape.layers[layer].row_bytes(0)) for layer in shape.state_layers]

    def places(self, start: int, end: int, pages: Sequence[int]) -> Places:
        """Where tokens [start, end) of a request lie that holds `pages`."""
        positions = np.arange(start, end)
        first = start // self._page_tokens
        held = np.array(pages[first : -(-end // self._page_tokens)], dtype=np.int64)
        return held[positions // self._page_tokens - first], positions % self._page_tokens

    def write_tokens(self, layer: int, places: Places, numbers: Numbers) -> None:
        """The entries of tokens, after which the prefixes have these numbers."""
        self._entries[layer][places] = self._rows(layer, numbers)

    def write_states(self, number: int, state_pages: Sequence[int]) -> None:
        """The states after a prefix with this number."""
        for rows in self._states:
            rows.write(self._pages, number, state_pages)

    def advance_states(self, number: int, before: Sequence[int], after: Sequence[int]) -> None:
        """One token later than what lies in `before`."""
        for rows in self._states:
            rows.advance(self._pages, number, before, after)

    def fault(self, numbers: Numbers, pages: Sequence[int], state_pages: Sequence[int]) -> str | None:
        """What is not as it must be of a prefix that somebody else, or another request, wrote; None if all is."""
        places = self.places(0, len(numbers), pages)
        for layer in self._shape.paged_layers:
            wrong = (self._entries[layer][places] != self._rows(layer, numbers)).any(axis=1)
            if wrong.any():
                return f"layer {layer} has other bytes for {int(wrong.sum())} tokens, first for token {wrong.argmax()}"
        if not all(rows.holds(self._pages, int(numbers[-1]), state_pages) for rows in self._states):
            return f"the states after {len(numbers)} tokens have other bytes"
        return None

    def _rows(self, layer: int, numbers: Numbers) -> Bytes:
        row_bytes = self._shape.layers[layer].row_bytes(0)
        return _repeated(mixed(numbers + np.uint64(layer)), row_bytes)


class _Rows:
    """One state tensor: its first row repeats the prefix's number, the others their own."""

    def __init__(self, layout: PageLayout, layer: int, row_bytes: int) -> None:
        places = layout.rows[layer][0]
        self._row_bytes = row_bytes
        self._first = places[0]
        self._template = np.zeros((layout.state_pages, layout.page_bytes), dtype=np.uint8)
        self._used = np.zeros_like(self._template, dtype=bool)
        values = _repeated(mixed(np.arange(1, len(places) + 1, dtype=np.uint64)), row_bytes)
        for place, value in zip(places[1:], values[1:], strict=True):
            self._template[place.page, place.offset : place.offset + row_bytes] = value
            self._used[place.page, place.offset : place.offset + row_bytes] = True

    def write(self, memory: Bytes, number: int, state_pages: Sequence[int]) -> None:
        for page, values, used in zip(state_pages, self._template, self._used, strict=True):
            np.copyto(memory[page], values, where=used)
        self._head(memory, state_pages)[:] = self._number(number)

    def advance(self, memory: Bytes, number: int, before: Sequence[int], after: Sequence[int]) -> None:
        if before != after:
            memory[list(after)] = memory[list(before)]
        self._head(memory, after)[:] = self._number(number)

    def holds(self, memory: Bytes, number: int, state_pages: Sequence[int]) -> bool:
        same = (memory[list(state_pages)] == self._template) | ~self._used
        return bool(same.all() and (self._head(memory, state_pages) == self._number(number)).all())

    def _head(self, memory: Bytes, state_pages: Sequence[int]) -> Bytes:
        start = self._first.offset
        return memory[state_pages[self._first.page], start : start + self._row_bytes]

    def _number(self, number: int) -> Bytes:
        row: Bytes = _repeated(np.array([number], dtype=np.uint64), self._row_bytes)[0]
        return row


def _entries(pages: Bytes, offset: int, page_tokens: int, row_bytes: int) -> Bytes:
    """A layer's entries in place, [pages, page_tokens, row_bytes]."""
    return np.lib.stride_tricks.as_strided(
        pages[:, offset:], (len(pages), page_tokens, row_bytes), (pages.strides[0], row_bytes, 1), writeable=True
    )


def _repeated(values: Numbers, row_bytes: int) -> Bytes:
    """Each value over and over, cut after `row_bytes`: [values, row_bytes]."""
    times = -(-row_bytes // _NUMBER_BYTES)
    rows: Bytes = np.repeat(values[:, None], times, axis=1).view(np.uint8)[:, :row_bytes]
    return rows

"""Pages of an engine that computes on a device of its own, between its memory and the memory shared with the front."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prfaas.cache.layout import PageLayout
from prfaas.core.shape import ModelShape
from prfaas_kernels.pages import gather_rows, scatter_rows

_PAGES_TOGETHER = 64
"""Copied at once: it bounds what is held twice."""


class DevicePages:
    """Copies in the order of the device's stream: what was launched before a call is in what the call reads."""

    def __init__(self, shape: ModelShape, layout: PageLayout, device: Tensor, shared: Tensor) -> None:
        """`device` and `shared` are all pages, [bytes] uint8 each."""
        assert device.shape == shared.shape
        self._shape = shape
        self._layout = layout
        self._device = device
        self._shared = shared

    def fetch(self, pages: Sequence[int]) -> None:
        self._copy(self._device, self._shared, pages)

    def push(self, pages: Sequence[int]) -> None:
        self._copy(self._shared, self._device, pages)

    def fetch_layer(self, layer: int, start: int, end: int, pages: Sequence[int], state_pages: Sequence[int]) -> None:
        if self._shape.layers[layer].paged:
            self._fetch_tokens(layer, start, end, pages)
        else:
            self._fetch_states(layer, state_pages)

    def _copy(self, source: Tensor, target: Tensor, pages: Sequence[int]) -> None:
        for first in range(0, len(pages), _PAGES_TOGETHER):
            some = torch.tensor(pages[first : first + _PAGES_TOGETHER])
            found = self._pages(source)[some.to(source.device)]
            self._pages(target)[some.to(target.device)] = found.to(target.device)

    def _fetch_tokens(self, layer: int, start: int, end: int, pages: Sequence[int]) -> None:
        """Whole pages' entries of the layer: more than was asked for at both ends, and all of it written."""
        size = self._layout.page_tokens
        some = torch.tensor(pages[start // size : -(-end // size)], dtype=torch.int64)
        for offset, tensor in zip(self._layout.offsets[layer], self._shape.layers[layer].tensors, strict=True):
            columns = slice(offset, offset + size * tensor.num_bytes)
            found = self._pages(self._device)[:, columns][some.to(self._device.device)]
            self._pages(self._shared)[:, columns][some] = found.to(self._shared.device)

    def _fetch_states(self, layer: int, state_pages: Sequence[int]) -> None:
        for tensor, places in enumerate(self._layout.rows[layer]):
            starts = [state_pages[place.page] * self._layout.page_bytes + place.offset for place in places]
            offsets = torch.tensor(starts, dtype=torch.int64)
            row_bytes = self._shape.layers[layer].row_bytes(tensor)
            found = gather_rows(self._device, offsets.to(self._device.device), row_bytes, torch.uint8)
            scatter_rows(self._shared, offsets, found.to(self._shared.device))

    def _pages(self, memory: Tensor) -> Tensor:
        return memory.view(-1, self._layout.page_bytes)

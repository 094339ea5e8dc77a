"""The instance's cache memory as bytes: where each token's entries and each state lie, in the wire's canonical order.

Canonical: for a paged layer the entries of consecutive tokens, for a state layer the whole state; in both, the tensor's
own row-major order. A sender gathers from these views, a receiver scatters into them; neither makes a copy of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from prfaas.core.shape import ModelShape
from prfaas.models.batch import CacheTensors


class CacheMemory:
    """Byte views over `CacheTensors` on the CPU."""

    def __init__(self, shape: ModelShape, tensors: CacheTensors) -> None:
        self._shape = shape
        self._page_tokens = tensors.page_tokens
        self._rows = tuple(tuple(_rows(t) for t in layer) for layer in tensors.layers)

    def spans(self, layer: int, tensor: int, start: int, end: int, pages: Sequence[int], slot: int) -> list[memoryview]:
        """The bytes of rows [start, end) of a request that holds `pages` and `slot`, in canonical order."""
        rows = self._rows[layer][tensor]
        row_bytes = self._shape.layers[layer].row_bytes(tensor)
        if not self._shape.layers[layer].paged:
            return [rows[slot][start * row_bytes : end * row_bytes]]
        found = []
        for page_index in range(start // self._page_tokens, -(-end // self._page_tokens)):
            first = page_index * self._page_tokens
            low, high = max(start, first) - first, min(end - first, self._page_tokens)
            found.append(rows[pages[page_index]][low * row_bytes : high * row_bytes])
        return found


def _rows(tensor: Tensor) -> list[memoryview]:
    """One memoryview per page or slot."""
    assert tensor.is_contiguous()
    flat = tensor.view(torch.uint8).reshape(tensor.shape[0], -1)  # [places, bytes]
    return [memoryview(row.numpy()) for row in flat]

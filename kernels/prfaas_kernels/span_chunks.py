"""How spans are cut into chunks of rows, one program or more for each; does not know what is computed of them."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas_kernels.spans import Spans

CHUNK = 64
"""Rows of a chunk: what one product on tensor cores takes."""


@dataclass(frozen=True, slots=True)
class SpanChunks:
    """N chunks of the rows of S spans, span after span; none reaches across the end of its span.

    An empty span has one chunk, without rows: whoever writes its state is a program like any other.
    """

    starts: Tensor
    """[N] int32 first row of each."""
    stops: Tensor
    """[N] int32 row after its last."""
    spans: Tensor
    """[N] int32 index of the span that each is of."""
    first: Tensor
    """[S] int32 index of each span's first chunk."""

    @classmethod
    def of(cls, spans: Spans, size: int = CHUNK) -> "SpanChunks":
        """Of `size` rows, on the device of `spans`; the last few are kept, since all layers of a step ask."""
        return _chunks(spans.rows, size, spans.starts.device)

    def __len__(self) -> int:
        return self.starts.shape[0]


@functools.lru_cache(maxsize=8)
def _chunks(rows: tuple[tuple[int, int], ...], size: int, device: torch.device) -> SpanChunks:
    """From what the host knows, in one copy."""
    first: list[int] = []
    found: list[tuple[int, int, int]] = []
    for span, (start, stop) in enumerate(rows):
        first.append(len(found))
        found += [(row, min(row + size, stop), span) for row in range(start, max(stop, start + 1), size)]
    # Each part begins at a multiple of 16 bytes: Triton compiles anew for pointers that do not.
    width = -(-len(found) // 4) * 4
    padding = [(0, 0, 0)] * (width - len(found))
    table = torch.tensor([*(x for part in zip(*found, *padding, strict=True) for x in part), *first], dtype=torch.int32)
    table = table.to(device, non_blocking=True)
    starts, stops, spans = table[: 3 * width].view(3, width)[:, : len(found)]
    return SpanChunks(starts, stops, spans, table[3 * width :])

"""How spans are cut into segments that are walked side by side; does not know what is computed of them."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import functools
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from prfaas_kernels.span_chunks import SpanChunks
from prfaas_kernels.spans import Spans

_SHORTEST_TOKENS = 1024
_MOST = 16  # of a span
_WALKS = 8  # for each multiprocessor, where there are tokens enough


@dataclass(frozen=True, slots=True)
class Segments:
    """Segments of S spans, and the places in a workspace of the states that they start from.

    A span that is one segment has no place there: nobody but its one program needs its state.
    """

    tokens: int
    """Of each but the last of a span."""
    table: SpanChunks
    slots: Tensor
    """[S] int32 place of the first segment of each span, if it has several; those of the others follow."""
    num_slots: int

    @classmethod
    def of(cls, spans: Spans, walks: int, processors: int) -> "Segments":
        """For `walks` programs side by side in each segment, on `processors`."""
        tokens = _segment_tokens(spans, walks, processors)
        slots, num_slots = _slots(spans.lens, tokens, spans.starts.device)
        return cls(tokens, SpanChunks.of(spans, tokens), slots, num_slots)


@functools.lru_cache(maxsize=8)
def _slots(lens: tuple[int, ...], segment: int, device: torch.device) -> tuple[Tensor, int]:
    """The last few are kept, since all layers of a step ask."""
    slots, end = [], 0
    for length in lens:
        slots.append(end)
        end += triton.cdiv(length, segment) if length > segment else 0
    return torch.tensor(slots, dtype=torch.int32).to(device, non_blocking=True), end


def _segment_tokens(spans: Spans, walks: int, processors: int) -> int:
    """Tokens that one program walks over, for `walks` programs side by side: enough programs, and few segments.

    The start of segment n costs n states to be read, so short segments and many of them do not pay.
    """
    fills = triton.cdiv(sum(spans.lens) * walks, _WALKS * processors)
    return int(triton.next_power_of_2(max(_SHORTEST_TOKENS, triton.cdiv(spans.longest, _MOST), fills)))

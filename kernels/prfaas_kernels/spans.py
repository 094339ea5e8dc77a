"""Which packed rows belong to which sequence: what every op over a batch of prompts is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Spans:
    """S spans of consecutive packed rows, each the next tokens of a sequence of its own.

    On the device for kernels, and on the host for grids and the CPU's loops: nobody waits for a copy.
    """

    starts: Tensor
    """[S] int32 first row of each."""
    stops: Tensor
    """[S] int32 row after its last."""
    contexts: Tensor
    """[S] int32 tokens of the sequence before the span."""
    rows: tuple[tuple[int, int], ...]
    """`starts` and `stops`."""
    context_lens: tuple[int, ...]
    """`contexts`."""

    @classmethod
    def of(
        cls, rows: tuple[tuple[int, int], ...], context_lens: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> "Spans":
        """From what the host knows, in one copy. Spans may be empty, and need not be adjacent."""
        assert len(rows) == len(context_lens)
        # Each of the three begins at a multiple of 16 bytes: a kernel is compiled anew for one that does not.
        spare = (0,) * (-len(rows) % 4)
        table = [*(start for start, _ in rows), *spare, *(stop for _, stop in rows), *spare, *context_lens, *spare]
        parts = torch.tensor(table, dtype=torch.int32).to(device, non_blocking=True).view(3, -1)
        starts, stops, contexts = parts[:, : len(rows)]
        return cls(starts, stops, contexts, rows, context_lens)

    @classmethod
    def packed(
        cls, lens: tuple[int, ...], context_lens: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> "Spans":
        """Spans of `lens` rows one after another: `starts` and `stops` are their cumulative lengths."""
        return cls.of(tuple(pairwise(accumulate(lens, initial=0))), context_lens, device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lens(self) -> tuple[int, ...]:
        """Rows of each."""
        return tuple(stop - start for start, stop in self.rows)

    @property
    def longest(self) -> int:
        """Rows of the longest span; 0 if there is none."""
        return max(self.lens, default=0)

    def some(self, which: Sequence[int]) -> "Spans":
        """Those of these numbers."""
        rows, lens = tuple(self.rows[i] for i in which), tuple(self.context_lens[i] for i in which)
        return Spans.of(rows, lens, self.starts.device)

    def join(self, parts: Sequence[Tensor], num_rows: int) -> Tensor:
        """What was computed for each span, [rows of it, ...], as [num_rows, ...]; other rows are not written.

        A single span of all rows is returned as it is.
        """
        if len(parts) == 1 and self.rows[0] == (0, num_rows):
            return parts[0]
        out = parts[0].new_empty(num_rows, *parts[0].shape[1:])
        for (start, stop), part in zip(self.rows, parts, strict=True):
            out[start:stop] = part
        return out

    @property
    def longest_context(self) -> int:
        """Tokens before the span that has most before it."""
        return max(self.context_lens, default=0)

"""How contexts are cut into rounds, so that what is expanded at once is bounded; knows no tensors."""

from collections.abc import Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """Some keys of a span's sequence, and where a round has them."""

    start: int
    """First row of the span's queries."""
    stop: int
    """Row after its last."""
    context: int
    """Position of the first."""
    sequence: int
    """Row of the block table."""
    first: int
    """Position of the first key."""
    end: int
    """Position after the last."""
    offset: int
    """Of the first key among the round's."""
    length: int
    """Tokens of the sequence, the span's included."""

    @property
    def keys(self) -> int:
        return self.end - self.first


def cut_rounds(
    rows: Sequence[tuple[int, int]], contexts: Sequence[int], sequences: Sequence[int], most: int
) -> list[list[Piece]]:
    """Rounds of at most `most` keys that together hold all keys of the sequences, each sequence's in order."""
    rounds: list[list[Piece]] = [[]]
    used = 0
    for (start, stop), context, sequence in zip(rows, contexts, sequences, strict=True):
        length, first = context + stop - start, 0
        while first < length:
            if used == most:
                rounds.append([])
                used = 0
            end = min(length, first + most - used)
            rounds[-1].append(Piece(start, stop, context, sequence, first, end, used, length))
            used += end - first
            first = end
    return [pieces for pieces in rounds if pieces]

"""Which rows of one tensor have arrived, and as which objects. Knows neither the tensor nor the transfer."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from prfaas.wire.header import Codec


class Arrival(NamedTuple):
    """One object that lies in its place, verified."""

    start: int
    end: int
    codec: Codec
    wire_bytes: int
    digest: int


class Overlap(Enum):
    """How an object's rows stand to those that arrived: none of them, all of them, or some (which no sender does)."""

    NONE = auto()
    WHOLE = auto()
    PART = auto()


class ReceivedRows:
    """Disjoint arrivals in order of rows."""

    def __init__(self) -> None:
        self._arrivals: list[Arrival] = []

    def __len__(self) -> int:
        return len(self._arrivals)

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self._arrivals)

    def overlap(self, start: int, end: int) -> Overlap:
        at = bisect_left(self._arrivals, start, key=lambda a: a.start)
        if at < len(self._arrivals) and self._arrivals[at][:2] == (start, end):
            return Overlap.WHOLE
        before = at > 0 and self._arrivals[at - 1].end > start
        behind = at < len(self._arrivals) and self._arrivals[at].start < end
        return Overlap.PART if before or behind else Overlap.NONE

    def add(self, arrival: Arrival) -> None:
        assert self.overlap(arrival.start, arrival.end) is Overlap.NONE, f"{arrival} has arrived already"
        insort(self._arrivals, arrival)

    def at(self, start: int) -> Arrival | None:
        """The arrival that begins at row `start`."""
        at = bisect_left(self._arrivals, start, key=lambda a: a.start)
        return self._arrivals[at] if at < len(self._arrivals) and self._arrivals[at].start == start else None

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Maximal runs of rows that have arrived."""
        begun: tuple[int, int] | None = None
        for arrival in self._arrivals:
            if begun is not None and begun[1] == arrival.start:
                begun = begun[0], arrival.end
                continue
            if begun is not None:
                yield begun
            begun = arrival.start, arrival.end
        if begun is not None:
            yield begun

    def reach(self, start: int) -> int:
        """The first row from `start` on that has not arrived."""
        for first, end in self.ranges():
            if first <= start < end:
                return end
        return start

"""When and how often each block was used. Knows blocks by number only.

A visit is noted at the last block that it reaches, whatever the length of the prefix; a block passes its visits on to
its parent when it is evicted. So a leaf, the only kind of block that is ever judged, has all that went through it.
"""

from array import array
from collections.abc import Sequence


class Visits:
    """Of blocks 0..size-1. `now` counts visits; `clock` is the value of what was evicted last."""

    def __init__(self, size: int) -> None:
        self.now = 0
        self.clock = 0.0
        self._last = array("q", bytes(8 * size))
        self._clocks = array("d", bytes(8 * size))
        self._counts = array("i", bytes(4 * size))

    def tick(self) -> None:
        """The next visit begins."""
        self.now += 1

    def begin(self, blocks: Sequence[int]) -> None:
        """Blocks are stored in this visit, and were not used yet."""
        last, clocks, counts, now, clock = self._last, self._clocks, self._counts, self.now, self.clock
        for block in blocks:
            last[block], clocks[block], counts[block] = now, clock, 0

    def touch(self, blocks: Sequence[int]) -> None:
        """Blocks that are stored already were computed again: as fresh as new ones, and no more used."""
        last, clocks, now, clock = self._last, self._clocks, self.now, self.clock
        for block in blocks:
            last[block], clocks[block] = now, clock

    def note(self, block: int) -> None:
        """This visit used the prefix that ends in `block`."""
        self._last[block], self._clocks[block] = self.now, self.clock
        self._counts[block] += 1

    def inherit(self, parent: int, child: int) -> None:
        """`child` goes, and what used it had used its parent."""
        self._last[parent] = max(self._last[parent], self._last[child])
        self._clocks[parent] = max(self._clocks[parent], self._clocks[child])
        self._counts[parent] += self._counts[child]

    def unused_until(self, blocks: Sequence[int], start: int) -> int:
        """The first place in `blocks`, from `start` on, of a block at which a use ended; their number if there is none.

        Blocks between a leaf and it were used through the leaf only: they are worth just as much.
        """
        counts = self._counts
        for i in range(start, len(blocks)):
            if counts[blocks[i]]:
                return i
        return len(blocks)

    def of(self, block: int) -> tuple[int, int, float]:
        """Visits (storing is the first), the last one, and the clock then; of a leaf."""
        return 1 + self._counts[block], self._last[block], self._clocks[block]

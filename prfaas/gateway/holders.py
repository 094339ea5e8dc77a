"""Who holds a block: one table for all instances, since every prompt is asked for in all of them at once.

Pure bookkeeping: knows holders by their numbers only.
"""

from collections.abc import Iterable, Iterator, Sequence

from prfaas.control.kv_events import BlockName

_BITS = 2
"""Of each holder in a mask: KV, and above it the snapshot of a state."""


def kv_bit(holder: int) -> int:
    return 1 << _BITS * holder


def state_bit(holder: int) -> int:
    return 2 << _BITS * holder


class Holders:
    """A mask of bits by name; names that nobody holds take no room.

    A mask has hundreds of bytes where there are many holders. Neighbours of a chain, which are told together and
    mostly have the same holders, share theirs; this is memory, and time of all that goes along a chain.
    """

    def __init__(self) -> None:
        self._masks: dict[BlockName, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, names: Iterable[BlockName], bit: int) -> None:
        masks = self._masks
        before, after = 0, bit
        for name in names:
            mask = masks.get(name, 0)
            if mask is not before:
                before, after = mask, mask | bit
            masks[name] = after

    def remove(self, names: Iterable[BlockName], bit: int) -> None:
        """Names without the bit stay as they are."""
        masks = self._masks
        before, after = 0, 0
        for name in names:
            mask = masks.get(name, 0)
            if mask is not before:
                before, after = mask, mask & ~bit
            if after:
                masks[name] = after
            else:
                masks.pop(name, None)

    def prefixes(self, chain: Sequence[BlockName], holders: int, *, snapshots: bool) -> Iterator[tuple[int, int]]:
        """Each holder that has a usable beginning of `chain`, and how many blocks the longest has; longest ones first.

        `holders` are the KV bits of those who matter. A beginning is usable if all its KV is held and, with
        `snapshots`, a state at its end.
        """
        seen = 0
        for count, ends in reversed(self._ends(chain, holders, snapshots=snapshots)):
            new = ends & ~seen
            seen |= new
            while new:
                lowest = new & -new
                yield (lowest.bit_length() - 1) // _BITS, count
                new ^= lowest

    def _ends(self, chain: Sequence[BlockName], alive: int, *, snapshots: bool) -> list[tuple[int, int]]:
        """KV bits of those for whom a usable beginning has so many blocks; of neighbours with one mask, the last."""
        ends: list[tuple[int, int]] = []
        masks = self._masks
        last, count, usable = 0, 0, 0
        for name in chain:
            mask = masks.get(name, 0)
            if mask is not last or not mask:
                if usable:
                    ends.append((count, usable))
                last = mask
                alive &= mask
                if not alive:
                    return ends
                usable = alive & mask >> 1 if snapshots else alive
            count += 1
        if usable:
            ends.append((count, usable))
        return ends

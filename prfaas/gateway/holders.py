"""Who holds a block: one table for all instances, since every prompt is asked for in all of them at once.

Pure bookkeeping: knows holders by their numbers only.
"""

from collections.abc import Iterable, Mapping, Sequence

from prfaas.control.kv_events import BlockName

_BITS = 2
"""Of each holder in a mask: KV, and above it the snapshot of a state."""


def kv_bit(holder: int) -> int:
    return 1 << _BITS * holder


def state_bit(holder: int) -> int:
    return 2 << _BITS * holder


class Holders:
    """A mask of bits by name; names that nobody holds take no room."""

    def __init__(self) -> None:
        self._masks: dict[BlockName, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, names: Iterable[BlockName], bit: int) -> None:
        masks = self._masks
        for name in names:
            masks[name] = masks.get(name, 0) | bit

    def remove(self, names: Iterable[BlockName], bit: int) -> None:
        """Names without the bit stay as they are."""
        masks = self._masks
        for name in names:
            if left := masks.get(name, 0) & ~bit:
                masks[name] = left
            else:
                masks.pop(name, None)

    def prefixes(self, chain: Sequence[BlockName], holders: Iterable[int], *, snapshots: bool) -> Mapping[int, int]:
        """Blocks of the longest usable beginning of `chain` for each holder that has one.

        A beginning is usable if all its KV is held and, with `snapshots`, a state at its end.
        """
        ends = self._ends(chain, sum(map(kv_bit, holders)), snapshots=snapshots)
        found: dict[int, int] = {}
        seen = 0
        for count in range(len(ends), 0, -1):
            new = ends[count - 1] & ~seen
            seen |= new
            while new:
                lowest = new & -new
                found[(lowest.bit_length() - 1) // _BITS] = count
                new ^= lowest
        return found

    def _ends(self, chain: Sequence[BlockName], alive: int, *, snapshots: bool) -> list[int]:
        """KV bits of those for whom a usable beginning ends at each block, as far as anybody holds KV."""
        masks, ends = self._masks, []
        for name in chain:
            mask = masks.get(name, 0)
            alive &= mask
            if not alive:
                break
            ends.append(alive & mask >> 1 if snapshots else alive)
        return ends

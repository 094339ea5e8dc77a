"""Which instances may hold the beginning of a prompt, so that not all have to be asked. Knows no caches.

A prompt that an instance has only its first block of is not worth asking for: many begin alike, and 512 tokens more or
less do not move a placement.
"""

from collections.abc import Iterable
from itertools import islice

from prfaas.core.ids import InstanceId
from prfaas.planner.simulate.arrival import Arrival

BEGINNINGS = 8_192
"""That are remembered; of more, those that have not been placed for longest are forgotten."""


class Holders:
    """Names every instance that was given such a prompt, whether or not it still has it."""

    def __init__(self) -> None:
        self._by_block: dict[int, tuple[InstanceId, ...]] = {}

    def of(self, arrival: Arrival) -> tuple[InstanceId, ...]:
        """In the order in which they first got one; () for a prompt without blocks."""
        return self._by_block.get(_beginning(arrival), ()) if arrival.blocks else ()

    def add(self, arrival: Arrival, instance_ids: Iterable[InstanceId]) -> None:
        """It is computed or decoded there."""
        if arrival.blocks:
            block = _beginning(arrival)
            known = self._by_block.pop(block, ())
            self._by_block[block] = (*known, *(name for name in instance_ids if name not in known))
            if len(self._by_block) > BEGINNINGS:
                del self._by_block[next(islice(self._by_block, 1))]


def _beginning(arrival: Arrival) -> int:
    """A trace's ids name a block together with all before it."""
    return arrival.blocks[min(1, len(arrival.blocks) - 1)]

"""What the disk tier holds, and which entry is to be deleted next. Pure bookkeeping: knows no files and no clock.

An entry that others need (a block by the next block, or by a snapshot at its end) is never deleted before them, since a
chain with a hole is useless. Of the others the one that was used the longest time ago goes first.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from prfaas.engine.disk_format import Key


@dataclass(slots=True)
class _Record:
    key: Key
    needs: Key | None
    num_bytes: int
    used_ns: int
    waits: bool = False
    """Whether the heap has it."""


class Index:
    """Entries by key, with sizes and the times of their last use."""

    def __init__(self) -> None:
        self._records: dict[Key, _Record] = {}
        self._needed_by: dict[Key, int] = {}
        # (time, tie-breaker, record) of all that nobody needs; times may be out of date, records may be gone.
        self._unneeded: list[tuple[int, int, _Record]] = []
        self._pushes = 0
        self.num_bytes = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._records)

    def add(self, key: Key, needs: Key | None, num_bytes: int, used_ns: int) -> None:
        """Notes a new entry, or again one that was known."""
        if key in self._records:
            self.remove(key)
        record = self._records[key] = _Record(key, needs, num_bytes, used_ns)
        self.num_bytes += num_bytes
        if needs is not None:
            self._needed_by[needs] = self._needed_by.get(needs, 0) + 1
        self._offer(record)

    def touch(self, key: Key, used_ns: int) -> None:
        """Notes a use, unless a later one is known or the entry is not."""
        record = self._records.get(key)
        if record is not None:
            record.used_ns = max(record.used_ns, used_ns)

    def remove(self, key: Key) -> None:
        """Forgets an entry; no harm if it is not known."""
        record = self._records.pop(key, None)
        if record is None:
            return
        self.num_bytes -= record.num_bytes
        if record.needs is not None:
            self._release(record.needs)

    def oldest(self) -> Key | None:
        """What is to be deleted next, if there is anything."""
        while self._unneeded:
            used_ns, _, record = self._unneeded[0]
            if self._records.get(record.key) is record and record.key not in self._needed_by:
                if record.used_ns == used_ns:
                    return record.key
                heapq.heapreplace(self._unneeded, self._item(record))
            else:
                heapq.heappop(self._unneeded)
                record.waits = False
        return None

    def _release(self, needed: Key) -> None:
        left = self._needed_by.pop(needed) - 1
        if left:
            self._needed_by[needed] = left
        elif needed in self._records:
            self._offer(self._records[needed])

    def _offer(self, record: _Record) -> None:
        if not record.waits and record.key not in self._needed_by:
            record.waits = True
            heapq.heappush(self._unneeded, self._item(record))

    def _item(self, record: _Record) -> tuple[int, int, _Record]:
        self._pushes += 1
        return record.used_ns, self._pushes, record

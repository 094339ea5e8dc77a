"""Sequences in order of arrival, found by id. Does not know what they stand in line for."""

from collections.abc import Iterator

from prfaas.core.ids import RequestId
from prfaas.scheduler.sequence import Sequence


class Line:
    """A queue whose places depend on arrival alone: one that comes back stands where it stood."""

    def __init__(self) -> None:
        self._by_id: dict[RequestId, Sequence] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Sequence]:
        return reversed(self._by_id.values())

    def get(self, request_id: RequestId) -> Sequence | None:
        return self._by_id.get(request_id)

    def first(self) -> Sequence | None:
        return next(iter(self), None)

    def add(self, sequence: Sequence) -> None:
        """Constant time for the last to arrive."""
        assert sequence.request_id not in self._by_id
        last = next(reversed(self), None)
        self._by_id[sequence.request_id] = sequence
        if last is not None and last.arrival > sequence.arrival:
            self._by_id = {s.request_id: s for s in sorted(self, key=lambda s: s.arrival)}

    def pop(self, request_id: RequestId) -> Sequence | None:
        return self._by_id.pop(request_id, None)

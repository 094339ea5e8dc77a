"""References held for requests that are on their way. Knows which pages, not what lies in them; times are told."""

from itertools import count
from typing import NewType

from prfaas.core.errors import LeaseError

LeaseId = NewType("LeaseId", int)


class Leases:
    """Pages of each lease, until it ends or its time is over. An id is never given twice."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._held: dict[LeaseId, tuple[float, tuple[int, ...]]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, lease: object) -> bool:
        return lease in self._held

    def begin(self, pages: tuple[int, ...], until_s: float) -> LeaseId:
        lease = LeaseId(next(self._ids))
        self._held[lease] = until_s, pages
        return lease

    def end(self, lease: LeaseId) -> tuple[int, ...]:
        """Its pages, to be released. Raises LeaseError if it was never given, or is over."""
        if lease not in self._held:
            raise LeaseError(f"lease {lease} was never given, or is over")
        return self._held.pop(lease)[1]

    def over(self, now_s: float) -> list[LeaseId]:
        """Those whose time has come; `end` them."""
        return [lease for lease, (until_s, _) in self._held.items() if until_s <= now_s]

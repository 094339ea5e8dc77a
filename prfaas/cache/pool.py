"""A fixed number of numbered places (KV pages, or slots of linear state), handed out whole or not at all."""

from collections.abc import Iterable

from prfaas.core.errors import PoolError


class PagePool:
    """Hands out ids 0..size-1. `what` names one place in error messages."""

    def __init__(self, size: int, what: str = "page") -> None:
        self._size = size
        self._what = what
        # Last in, first out: a place freed a moment ago is still warm in the processor's cache.
        self._free = list(range(size - 1, -1, -1))
        self._used: set[int] = set()

    @property
    def size(self) -> int:
        return self._size

    @property
    def used(self) -> int:
        return len(self._used)

    @property
    def free(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> tuple[int, ...] | None:
        """`count` ids, or None (and nothing taken) when fewer are free."""
        if count > len(self._free):
            return None
        ids = tuple(self._free.pop() for _ in range(count))
        self._used.update(ids)
        return ids

    def release(self, ids: Iterable[int]) -> None:
        """Takes ids back. Raises PoolError, and takes none, if any of them is not allocated or stands twice."""
        back = tuple(ids)
        stray = [i for i in back if i not in self._used]
        if stray or len(set(back)) != len(back):
            raise PoolError(f"release of {self._what}s {sorted(back)}: not allocated or given twice: {sorted(stray)}")
        self._used.difference_update(back)
        self._free.extend(back)

    def check(self) -> None:
        """Raises PoolError unless every place is either free or used, exactly once."""
        if len(self._free) + len(self._used) != self._size or self._used & set(self._free):
            raise PoolError(f"{self._what}s: {len(self._free)} free + {len(self._used)} used != {self._size}")

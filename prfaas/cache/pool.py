"""The pages of an instance's cache, counted: who holds how many references. Does not know what lies in them.

Holders (requests, transfers, leases) take and give references. The prefix index has at most one of its own on a page,
told apart from theirs, so that it is known at any time how many pages nobody but the index holds: those are idle, and
can be had again by evicting.
"""

from collections.abc import Iterable, Sequence

from prfaas.core.errors import PoolError


class PagePool:
    """Pages 0..size-1."""

    def __init__(self, size: int) -> None:
        self._size = size
        # Last in, first out: a page freed a moment ago is still warm in the processor's cache.
        # A list is read and written in half the time that an array takes.
        self._free = list(range(size - 1, -1, -1))
        self._holders = [0] * size
        self._kept = [0] * size
        self._lossy = bytearray(size)
        self._marked = False
        self._num_kept = 0
        self._idle = 0

    @property
    def size(self) -> int:
        return self._size

    @property
    def free(self) -> int:
        """Pages without any reference."""
        return len(self._free)

    @property
    def used(self) -> int:
        return self._size - len(self._free)

    @property
    def kept(self) -> int:
        """Pages on which the index has its reference."""
        return self._num_kept

    @property
    def idle(self) -> int:
        """Pages on which nobody else has one."""
        return self._idle

    def refs(self, page: int) -> int:
        """All references on a page, the index's included; 0 if it is free."""
        return self._holders[page] + self._kept[page]

    def is_idle(self, page: int) -> bool:
        """Whether the index, and nobody else, holds the page."""
        return self._kept[page] == 1 and self._holders[page] == 0

    def mark_lossy(self, pages: Iterable[int]) -> None:
        """What lies in them was rounded on its way here; known as long as they are not free."""
        for page in pages:
            self._lossy[page] = 1
            self._marked = True

    def lossy(self, page: int) -> bool:
        """Whether the page has been marked so since it was allocated."""
        return self._lossy[page] == 1

    def unmarked_until(self, pages: Sequence[int]) -> int:
        """How many of the leading pages are not marked so."""
        if not self._marked:
            return len(pages)
        return next((i for i, page in enumerate(pages) if self._lossy[page]), len(pages))

    def marked_until(self, pages: Sequence[int]) -> int:
        """How many of the leading pages end with the last that is marked so."""
        if not self._marked:
            return 0
        return next((i + 1 for i in reversed(range(len(pages))) if self._lossy[pages[i]]), 0)

    def any_idle(self, pages: Iterable[int]) -> bool:
        holders, kept = self._holders, self._kept
        for page in pages:  # noqa: SIM110 - a generator takes twice as long
            if kept[page] and not holders[page]:
                return True
        return False

    def idle_until(self, pages: Sequence[int]) -> int:
        """How many of the leading pages are idle."""
        holders, kept = self._holders, self._kept
        for i, page in enumerate(pages):
            if holders[page] or not kept[page]:
                return i
        return len(pages)

    def allocate(self, count: int) -> tuple[int, ...] | None:
        """`count` pages with one reference each, or None (and nothing taken) when fewer are free."""
        first = len(self._free) - count
        if first < 0:
            return None
        pages = tuple(self._free[first:][::-1])
        del self._free[first:]
        holders = self._holders
        for page in pages:
            holders[page] = 1
        if self._marked:
            for page in pages:
                self._lossy[page] = 0
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """One more reference each. PoolError, and nothing changed, if one of them is not allocated."""
        pages = tuple(pages)
        if not pages:
            return
        self._demand_in_range("share", pages)
        holders, kept, unheld = self._holders, self._kept, 0
        for done, page in enumerate(pages):
            if not holders[page]:
                if not kept[page]:
                    for shared in pages[:done]:
                        holders[shared] -= 1
                    self._demand("share", pages, [p for p in dict.fromkeys(pages) if not (holders[p] or kept[p])])
                unheld += 1
            holders[page] += 1
        self._idle -= unheld

    def release(self, pages: Iterable[int]) -> list[int]:
        """A holder's reference back on each; pages are freed with their last one. Returns those that became idle.

        Raises PoolError, and changes nothing, where a page has no holder left to give a reference back.
        """
        pages = tuple(pages)
        self._demand_in_range("release", pages)
        holders, kept = self._holders, self._kept
        idle, freed, stray = list[int](), list[int](), list[int]()
        for page in pages:
            left = holders[page] - 1
            holders[page] = left
            if left <= 0:
                (stray if left else idle if kept[page] else freed).append(page)
        if stray:
            for page in pages:
                holders[page] += 1
            self._demand("release", pages, list(dict.fromkeys(stray)))
        self._free.extend(freed)
        self._idle += len(idle)
        return idle

    def keep(self, pages: Sequence[int]) -> None:
        """The index's reference on each. PoolError, and nothing changed, unless all are held and none is kept yet."""
        self._demand_in_range("keep", pages)
        holders, kept = self._holders, self._kept
        for done, page in enumerate(pages):
            if kept[page] or not holders[page]:
                for taken in pages[:done]:
                    kept[taken] = 0
                stray = [p for p in pages if kept[p] or not holders[p]]
                # None is: one of them is named twice.
                self._demand("keep", pages, stray or pages)
            kept[page] = 1
        self._num_kept += len(pages)

    def drop(self, pages: Sequence[int]) -> int:
        """The index's reference back on each, which must be kept; the number of pages that this frees."""
        holders, kept = self._holders, self._kept
        assert all(map(kept.__getitem__, pages))
        freed = []
        for page in pages:
            kept[page] = 0
            if not holders[page]:
                freed.append(page)
        self._free.extend(freed)
        self._num_kept -= len(pages)
        self._idle -= len(freed)
        return len(freed)

    def check(self) -> None:
        """Raises PoolError unless every page is either free or referenced, exactly once, and the counts agree."""
        referenced = [p for p in range(self._size) if self.refs(p)]
        if sorted([*self._free, *referenced]) != list(range(self._size)):
            raise PoolError(f"{len(self._free)} free pages + {len(referenced)} referenced != {self._size}")
        idle = sum(map(self.is_idle, referenced))
        if (self._num_kept, self._idle) != (sum(self._kept), idle):
            raise PoolError(f"{self._num_kept} pages kept, {self._idle} idle; found {sum(self._kept)}, {idle}")

    def _demand_in_range(self, what: str, pages: Sequence[int]) -> None:
        if pages and not 0 <= min(pages) <= max(pages) < self._size:
            self._demand(what, pages, [page for page in pages if not 0 <= page < self._size])

    def _demand(self, what: str, pages: Sequence[int], stray: Sequence[int]) -> None:
        if stray:
            raise PoolError(f"{what} of pages {_some(pages)}, among which these are not allocated so: {_some(stray)}")


def _some(pages: Sequence[int]) -> str:
    """For messages: a prompt can have thousands."""
    return f"{list(pages[:8])}{' …' if len(pages) > 8 else ''}"

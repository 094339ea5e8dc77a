"""What sequences hold: pages that grow with them, and a state slot. Does not know who should have them first."""

from prfaas.cache.pool import PagePool
from prfaas.scheduler.sequence import Sequence

WATERMARK_SHARE = 16
"""At most one page in so many stays free at an admission."""


def watermark_pages(num_growing: int, num_pages: int) -> int:
    """Pages to leave free at an admission: one for each sequence that grows already, up to 1/16 of the pool.

    Without it a newcomer would take the last pages, and lose them to a decode a few steps later. It is 0 when nothing
    grows, so that a request which needs the whole pool gets in when it is alone.
    """
    return min(num_growing, -(-num_pages // WATERMARK_SHARE))


class SequenceMemory:
    """Takes from the two pools for a sequence, and gives back."""

    def __init__(self, pages: PagePool, slots: PagePool, page_tokens: int) -> None:
        self._pages = pages
        self._slots = slots
        self._page_tokens = page_tokens

    @property
    def num_pages(self) -> int:
        """Of the whole pool."""
        return self._pages.size

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self._page_tokens)

    def reserve(self, sequence: Sequence, keep_free: int) -> bool:
        """Pages for all tokens it has and a slot, together or neither; False unless `keep_free` pages remain."""
        needed = self.pages_for(sequence.num_tokens)
        if self._slots.free == 0 or self._pages.free < needed + keep_free:
            return False
        pages, slot = self._pages.allocate(needed), self._slots.allocate(1)
        assert pages is not None
        assert slot is not None
        sequence.pages, sequence.slot = pages, slot[0]
        return True

    def grow(self, sequence: Sequence) -> bool:
        """Room for one more computed token; False if that takes a page and none is free."""
        if sequence.computed_tokens < len(sequence.pages) * self._page_tokens:
            return True
        page = self._pages.allocate(1)
        if page is None:
            return False
        sequence.pages += page
        return True

    def free(self, sequence: Sequence) -> None:
        """Takes everything back."""
        self._pages.release(sequence.pages)
        self._slots.release((sequence.slot,))
        sequence.pages, sequence.slot = (), -1

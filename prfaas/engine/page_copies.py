"""Where the engine computes on a device of its own: pages between its memory and the memory shared with the front.

The front, the data plane and the disk tier read and write the shared memory; a page has the same number in both.
"""

from collections.abc import Sequence
from typing import Protocol


class PageCopies(Protocol):
    """What the step loop asks for before others read pages, and after others wrote them."""

    def fetch(self, pages: Sequence[int]) -> None:
        """Whole pages become readable by others."""
        ...

    def fetch_layer(self, layer: int, start: int, end: int, pages: Sequence[int], state_pages: Sequence[int]) -> None:
        """A layer of a request becomes readable by others: its tokens [start, end), or its states."""
        ...

    def push(self, pages: Sequence[int]) -> None:
        """What others wrote to whole pages becomes readable by the model."""
        ...


class SharedPages:
    """The model computes in the shared memory itself: there is nothing to copy."""

    def fetch(self, pages: Sequence[int]) -> None:
        """Nothing to do."""

    def fetch_layer(self, layer: int, start: int, end: int, pages: Sequence[int], state_pages: Sequence[int]) -> None:
        """Nothing to do."""

    def push(self, pages: Sequence[int]) -> None:
        """Nothing to do."""

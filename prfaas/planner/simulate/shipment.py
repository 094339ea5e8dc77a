"""Bytes that cross a link together. Knows only where in the link's order of bytes they are."""

from collections.abc import Callable
from math import inf


class Shipment:
    """Mutable, and its link's alone. A place in the order is counted in bytes from the beginning of the run."""

    __slots__ = ("arrived", "ends_at", "pieces", "pour_bytes_s", "pour_from", "pour_start_s", "sent_bytes", "version")

    def __init__(self, arrived: Callable[[], None]) -> None:
        self.arrived = arrived
        self.pieces: list[list[float]] = []
        """[from, to, bytes]: between two places so many are its own, evenly spread. In order."""
        self.sent_bytes = 0.0
        """That came so far, pours under way excluded."""
        self.ends_at = inf
        """The place after its last byte, once it is closed."""
        self.pour_bytes_s = 0.0
        """0: nothing is being poured."""
        self.pour_start_s = 0.0
        self.pour_from = 0.0
        self.version = 0

    def shift(self, start: float, end: float, dropped: float) -> None:
        """Moves it up after `dropped` bytes between two places were taken out."""

        def moved(place: float) -> float:
            if place <= start:
                return place
            return place - dropped * min(1.0, (place - start) / (end - start))

        for piece in self.pieces:
            piece[0], piece[1] = moved(piece[0]), moved(piece[1])
        self.pour_from = moved(self.pour_from)
        if self.ends_at < inf:
            self.ends_at = moved(self.ends_at)

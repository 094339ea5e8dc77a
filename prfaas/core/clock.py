"""Time as an argument: whatever reads a clock is given one of these."""

from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that never run backwards; only differences mean anything."""

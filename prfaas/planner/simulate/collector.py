"""How often Python looks for cycles of garbage while a simulation runs. Knows nothing of simulations."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 100_000
"""That are made before the youngest are looked at; Python's own 700 cost a run an eighth of its time."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """A run makes and drops some hundred objects a request, hardly ever in a cycle; afterwards all is as it was."""
    before = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)

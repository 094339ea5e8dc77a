"""Addresses of memory that Python objects hold. They are valid as long as whoever asked keeps the object."""

import numpy as np


def address_of(view: memoryview | bytearray | bytes) -> int:
    """Of the first byte of `view`, which is dense and may be read-only."""
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0]) if len(view) else 0


def aligned(view: memoryview) -> memoryview:
    """`view`, or a copy where it does not begin at a multiple of 4 bytes, which kernels ask of numbers."""
    return view if address_of(view) % 4 == 0 else np.frombuffer(view, np.uint8).copy().data

"""Cached values from one dtype to another, between plain memory; knows neither tensors nor pages."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from prfaas.core.shape import DTYPE_BYTES, DType

_STEP_VALUES = 1 << 16
"""Converted at a time: what it takes beside the values stays in the second-level cache."""
_NAN = 0x7FC0
_INFINITY = 0x7F800000


def convert(payload: memoryview, sent: DType, spans: Iterable[memoryview], own: DType) -> None:
    """Writes the values of `payload` to `spans`, one after the other: exactly, or rounded to nearest, ties to even."""
    assert sent != own, "there is nothing to convert"
    taken = 0
    for span in spans:
        size = span.nbytes // DTYPE_BYTES[own] * DTYPE_BYTES[sent]
        (_widen if own == "float32" else _round)(payload[taken : taken + size], span)
        taken += size
    assert taken == payload.nbytes


def _widen(payload: memoryview, span: memoryview) -> None:
    out = np.frombuffer(span, "<u4")
    np.copyto(out, np.frombuffer(payload, "<u2"))
    np.left_shift(out, 16, out=out)


def _round(payload: memoryview, span: memoryview) -> None:
    bits, out = np.frombuffer(payload, "<u4"), np.frombuffer(span, "<u2")
    for at in range(0, len(out), _STEP_VALUES):
        out[at : at + _STEP_VALUES] = _rounded(bits[at : at + _STEP_VALUES])


def _rounded(bits: NDArray[np.uint32]) -> NDArray[np.uint16]:
    scratch = bits >> 16
    scratch &= 1
    scratch += 0x7FFF
    scratch += bits
    scratch >>= 16
    scratch[(bits & 0x7FFFFFFF) > _INFINITY] = _NAN
    return scratch.astype(np.uint16)

"""Sums of terms through measurements: least squares on the relative error, no coefficient below 0. Knows no engines."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

ROUNDS = 4
"""Of telling outliers from the others."""


def nonnegative(terms: Vector, seconds: Vector, optional: Iterable[int], weights: Vector | None = None) -> list[float]:
    """Coefficients [n] of `terms` [samples, n]: the least error of all choices of terms with none below 0.

    With three terms at most left out in all ways, trying them all is exact. Where two choices do as well, the one with
    the earlier terms counts. `weights` [samples]: what a squared error counts; none: 1.
    """
    best, least = [0.0] * terms.shape[1], np.inf
    roots = np.ones(len(seconds)) if weights is None else np.sqrt(weights)
    scaled = terms * (roots / seconds)[:, None]
    for kept in _choices(terms.shape, list(optional)):
        found, *_ = np.linalg.lstsq(scaled[:, kept], roots, rcond=None)
        error = float(np.square(scaled[:, kept] @ found - roots).sum())
        if found.min() >= 0 and error < least - 1e-12:
            best, least = [0.0] * terms.shape[1], error
            for i, coefficient in zip(kept, found, strict=True):
                best[i] = float(coefficient)
    return best


def robust(terms: Vector, seconds: Vector, optional: Iterable[int], weights: Vector) -> list[float]:
    """The same with outliers counting little: again and again, with less weight for what is far from the last result
    (Cauchy's, at the median of the errors)."""
    optional = list(optional)
    found = nonnegative(terms, seconds, optional, weights)
    for _ in range(ROUNDS):
        errors = np.abs(terms @ np.array(found) / seconds - 1)
        scale = max(float(np.median(errors)), 1e-6)
        found = nonnegative(terms, seconds, optional, weights / (1 + np.square(errors / (2 * scale))))
    return found


def _choices(shape: tuple[int, ...], optional: list[int]) -> Iterable[list[int]]:
    """Sets of terms to keep, no more than there are samples; all that are not optional are in each."""
    samples, terms = shape
    needed = [i for i in range(terms) if i not in optional]
    for count in range(len(optional) + 1):
        for extra in combinations(optional, count):
            if 0 < len(needed) + count <= samples:
                yield sorted([*needed, *extra])

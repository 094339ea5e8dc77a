"""A number for every prefix of a prompt, which stands for all that a model would compute of it. Knows no memory.

`c(0) = 0`, `c(i+1) = c(i)·M + token(i) + 1` modulo 2**64: like a linear state it can be taken up anywhere, and like one
it is wrong for ever once a token was.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

NOTHING = 0
"""Of no token."""
_MULTIPLIER = 0x5851F42D4C957F2D
"""Odd, so that it has an inverse; Knuth's for linear congruential generators."""
_MASK = (1 << 64) - 1
_INVERSE = pow(_MULTIPLIER, -1, 1 << 64)
_SMALLEST_TABLE = 1 << 12


def numbers(before: int, token_ids: tuple[int, ...]) -> Numbers:
    """After each of `token_ids`, which follow a prefix whose number is `before`."""
    count = len(token_ids)
    powers, inverses = _tables(max(_SMALLEST_TABLE, 1 << (count - 1).bit_length()))
    tokens = np.array(token_ids, dtype=np.uint64) + np.uint64(1)
    return powers[:count] * (np.uint64(before) + np.cumsum(tokens * inverses[:count], dtype=np.uint64))


def following(before: int, token_id: int) -> int:
    """After one token more."""
    return (before * _MULTIPLIER + token_id + 1) & _MASK


def mixed(values: Numbers) -> Numbers:
    """Every bit of a result depends on every bit of a value (SplitMix64's finaliser)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(2)
def _tables(count: int) -> tuple[Numbers, Numbers]:
    """M**1, M**2, ... and M**-1, M**-2, ..."""
    powers = np.multiply.accumulate(np.full(count, _MULTIPLIER, dtype=np.uint64))
    inverses = np.multiply.accumulate(np.full(count, _INVERSE, dtype=np.uint64))
    return powers, inverses

"""What decode steps take this instance: T_decode of the PrfaaS paper (s3.4), by batch and context. Knows no engine."""

from collections import deque
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from prfaas.policy.least_squares import robust

KEPT = 24
"""Steps of each size of batch: 1, 2-3, 4-7, 8-15, ..."""
FEWEST_STEPS = 4
"""Of a size, for it to count: the first ones of an engine warm up."""
APART = 0.2
"""Contexts of a size must differ by this share, for their time to be told from the batch's own."""


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """A step without any prefill in it."""

    requests: int
    context_tokens: int
    """That its requests look back at together."""
    seconds: float


@dataclass(frozen=True, slots=True)
class DecodeRates:
    """`points`: (requests, seconds at no context), both rising."""

    points: tuple[tuple[int, float], ...]
    per_context_token_s: float

    def seconds(self, step_requests: int, context_tokens: int) -> float | None:
        """Of a batch of a size that was seen; None for others."""
        size = step_requests.bit_length()
        found = next((seconds for requests, seconds in self.points if requests.bit_length() == size), None)
        return None if found is None else found + context_tokens * self.per_context_token_s


class DecodeFit:
    """Bounded: of each size the latest steps."""

    def __init__(self) -> None:
        self._sizes: dict[int, deque[DecodeStep]] = {}
        self.seen = 0
        """Steps since the start."""

    def add(self, step: DecodeStep) -> None:
        self._sizes.setdefault(step.requests.bit_length(), deque(maxlen=KEPT)).append(step)
        self.seen += 1

    def rates(self) -> DecodeRates | None:
        """None before enough steps were seen."""
        sizes = [self._sizes[size] for size in sorted(self._sizes) if len(self._sizes[size]) >= FEWEST_STEPS]
        if not sizes:
            return None
        batches = [max(1, round(sum(step.requests for step in size) / len(size))) for size in sizes]
        terms = np.array(
            [
                [*(float(i == j) for j in range(len(sizes))), step.context_tokens, step.requests - batches[i]]
                for i, size in enumerate(sizes)
                for step in size
            ]
        )
        seconds = np.array([step.seconds for size in sizes for step in size])
        if not any(map(_apart, sizes)):
            terms[:, -2] = 0.0
        *alone, per_context_token_s, _ = robust(terms, seconds, [len(sizes), len(sizes) + 1], np.ones(len(seconds)))
        return DecodeRates(tuple(zip(batches, accumulate(alone, max), strict=True)), per_context_token_s)


def _apart(size: deque[DecodeStep]) -> bool:
    contexts = [step.context_tokens for step in size]
    return max(contexts) - min(contexts) > APART * max(contexts)

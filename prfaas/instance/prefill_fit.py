"""What prompts take this instance, from the steps that it ran: T_prefill of the PrfaaS paper (s3.4). Knows no engine.

A prompt is rarely alone: others share its steps, and decodes run beside it. So it is not prompts that are timed. Steps
are added up until a prompt ends in one, and each such run says what so many prompts begun, so many tokens computed and
so many pairs of tokens attended to took together: in these three T_prefill is a sum.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from prfaas.policy.least_squares import robust

KEPT = 32
"""Runs of each size: sizes are told apart by powers of two, so that short prompts do not push long ones out."""
HALF_LIFE_S = 300.0
"""A run of this age counts half."""
FORGOTTEN_S = 8 * HALF_LIFE_S
FEWEST_PROMPTS = 3


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """What a step did for prompts."""

    begun: int
    """Prompts that had their first chunk in it."""
    tokens: int
    squares: int
    """Sum over its chunks [start, end) of end² - start²."""
    done: int
    """Prompts whose last chunk was in it."""
    seconds: float
    """Less what the decodes beside them take."""


@dataclass(frozen=True, slots=True)
class PrefillRates:
    """`overhead_s + per_token_s·l + per_token2_s·l²`."""

    overhead_s: float
    per_token_s: float
    per_token2_s: float
    prompts: int


class PrefillFit:
    """Bounded, and the past fades."""

    def __init__(self) -> None:
        self._sizes: dict[int, deque[tuple[float, PrefillStep]]] = {}
        """(when it ended, the whole run), by the power of two of its tokens."""
        self._run = PrefillStep(0, 0, 0, 0, 0.0)
        self.seen = 0
        """Runs since the start."""

    def add(self, step: PrefillStep, now_s: float) -> None:
        """A step may be left out where nobody can say what it took for prompts: the others stay right without it."""
        run = self._run
        self._run = PrefillStep(
            run.begun + step.begun,
            run.tokens + step.tokens,
            run.squares + step.squares,
            run.done + step.done,
            run.seconds + step.seconds,
        )
        if self._run.done and self._run.tokens and self._run.seconds > 0:
            size = self._sizes.setdefault(self._run.tokens.bit_length(), deque(maxlen=KEPT))
            size.append((now_s, self._run))
            self._run = PrefillStep(0, 0, 0, 0, 0.0)
            self.seen += 1

    def rates(self, now_s: float) -> PrefillRates | None:
        """None before enough prompts were seen."""
        runs = [(at_s, run) for size in self._sizes.values() for at_s, run in size if now_s - at_s < FORGOTTEN_S]
        prompts = sum(run.done for _, run in runs)
        if prompts < FEWEST_PROMPTS:
            return None
        terms = np.array([(run.tokens, run.begun, run.squares) for _, run in runs], dtype=np.float64)
        seconds = np.array([run.seconds for _, run in runs])
        weights = np.array([2.0 ** ((at_s - now_s) / HALF_LIFE_S) for at_s, _ in runs])
        per_token_s, overhead_s, per_token2_s = robust(terms, seconds, range(3), weights)
        return PrefillRates(overhead_s, per_token_s, per_token2_s, prompts)

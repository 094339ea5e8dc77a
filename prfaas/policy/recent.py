"""Lengths of the prompts that came lately, of bounded size, as the router keeps them. Reads no clock."""

from collections.abc import Iterable
from math import floor, log, log1p
from operator import truediv

from prfaas.policy.lengths import Empirical

BIN_WIDTH = 0.02
"""Of a bin, relative to the lengths in it."""
MAX_BINS = 1024
"""Up to 6e8 tokens; longer prompts are counted with the longest."""
_LOG_WIDTH = log1p(BIN_WIDTH)
_RENEWED_AT = 2.0**500


class Recent:
    """A histogram with logarithmic bins in which the past counts half as much after every half-life; a `Lengths`.

    A bin stands at the mean of what is in it. Adding takes constant time: instead of the past, which would have to
    fade, what is new grows.
    """

    def __init__(self, half_life: float, lengths: Iterable[float] = ()) -> None:
        """`half_life` is in requests, or in seconds if `add` is told the time. `lengths`: what to begin with, all
        of the same age."""
        assert half_life > 0
        self._half_life = half_life
        self._weights: dict[int, float] = {}
        self._sums: dict[int, float] = {}
        self._origin = 0.0
        self._now = 0.0
        self._seen: Empirical | None = None
        for tokens in lengths:
            self.add(tokens, at_s=0.0)

    def add(self, tokens: float, at_s: float | None = None) -> None:
        """`at_s` must not fall; None counts as one more than the last."""
        self._now = self._now + 1 if at_s is None else max(at_s, self._now)
        weight = 2.0 ** min((self._now - self._origin) / self._half_life, 1000.0)
        if weight > _RENEWED_AT:
            self._renew()
            weight = 1.0
        index = min(floor(log(max(tokens, 1.0)) / _LOG_WIDTH), MAX_BINS - 1)
        self._weights[index] = self._weights.get(index, 0.0) + weight
        self._sums[index] = self._sums.get(index, 0.0) + weight * tokens
        self._seen = None

    def _renew(self) -> None:
        """Counts from now on; what has faded to nothing is dropped."""
        scale = 2.0 ** max((self._origin - self._now) / self._half_life, -1000.0)
        kept = {i: w * scale for i, w in self._weights.items() if w * scale > 1e-100}
        self._sums = {i: self._sums[i] * scale for i in kept}
        self._weights = kept
        self._origin = self._now

    @property
    def empty(self) -> bool:
        """Nothing was added yet: the shares and means of nothing are 0."""
        return not self._weights

    def _lengths(self) -> Empirical:
        if self._seen is None:
            bins = sorted(self._weights)
            weights = list(map(self._weights.__getitem__, bins))
            self._seen = Empirical(list(map(truediv, map(self._sums.__getitem__, bins), weights)), weights)
        return self._seen

    def above(self, t: float) -> float:
        return 0.0 if self.empty else self._lengths().above(t)

    def mean_above(self, t: float) -> float:
        return 0.0 if self.empty else self._lengths().mean_above(t)

    def mean_below(self, t: float) -> float:
        return 0.0 if self.empty else self._lengths().mean_below(t)

    @property
    def mean(self) -> float:
        return 0.0 if self.empty else self._lengths().mean

    def quantile(self, q: float) -> float:
        return 0.0 if self.empty else self._lengths().quantile(q)

    def samples(self, n: int) -> list[float]:
        return [] if self.empty else self._lengths().samples(n)

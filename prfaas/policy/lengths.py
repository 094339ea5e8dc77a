"""How long prompts are, as far as nothing of them is cached: distributions that the throughput model asks.

Knows no requests and no times. Lengths that are watched as they come are in `recent`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import erfc, exp, log, sqrt
from operator import mul
from statistics import NormalDist
from typing import Protocol

from prfaas.core.errors import ConfigError


class Lengths(Protocol):
    """`L` of the PrfaaS paper (s3.4), in tokens."""

    def above(self, t: float) -> float:
        """P(L > t)."""
        ...

    def mean_above(self, t: float) -> float:
        """E[L | L > t]; 0 where none is longer."""
        ...

    def mean_below(self, t: float) -> float:
        """E[L | L <= t]; 0 where all are longer."""
        ...

    @property
    def mean(self) -> float: ...

    def quantile(self, q: float) -> float:
        """The length that a share `q` of the prompts does not exceed; `q` 0 and 1 are the shortest and the longest."""
        ...

    def samples(self, n: int) -> list[float]:
        """`n` equally likely lengths, rising, for expectations such as E[T(L)]."""
        ...


@dataclass(frozen=True, slots=True)
class Lognormal:
    """ln(L) is normal with `mu` and `sigma`; L is truncated to [low, high]. In closed form."""

    mu: float
    sigma: float
    low: float
    high: float
    _low_z: float = field(init=False, repr=False, compare=False)
    _high_z: float = field(init=False, repr=False, compare=False)
    _inside: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConfigError where so little of the distribution is within the limits that nothing can be computed."""
        assert 0 < self.low < self.high
        assert self.sigma > 0
        object.__setattr__(self, "_low_z", self._z(self.low))
        object.__setattr__(self, "_high_z", self._z(self.high))
        object.__setattr__(self, "_inside", _normal_between(self._low_z, self._high_z))
        if not self._inside or not self.mean:
            raise ConfigError(
                f"of log-normal lengths with mu {self.mu} and sigma {self.sigma} none lie between {self.low:g} and "
                f"{self.high:g} tokens: the median is {exp(self.mu):.0f}; move the limits, or change mu"
            )

    def above(self, t: float) -> float:
        if t < self.low:
            return 1.0
        return 0.0 if t >= self.high else _normal_between(self._z(t), self._high_z) / self._inside

    def mean_above(self, t: float) -> float:
        share = self.above(t)
        return min(max(self._sum(max(t, self.low), self.high) / share, t), self.high) if share else 0.0

    def mean_below(self, t: float) -> float:
        if t <= self.low:
            return 0.0
        t = min(t, self.high)
        share = _normal_between(self._low_z, self._z(t)) / self._inside
        return min(max(self._sum(self.low, t) / share, self.low), t) if share else self.low

    @property
    def mean(self) -> float:
        return self._sum(self.low, self.high)

    def quantile(self, q: float) -> float:
        if not 0 < q < 1:
            return self.low if q <= 0 else self.high
        # From the nearer end, since the cdf of what is far above the median is 1 to the last digit.
        if self._low_z > 0:
            share, sign = _normal_below(-self._high_z) + (1 - q) * self._inside, -1
        else:
            share, sign = _normal_below(self._low_z) + q * self._inside, 1
        if not 0 < share < 1:
            return self.low if q < 0.5 else self.high
        return min(max(exp(self.mu + sign * self.sigma * NormalDist().inv_cdf(share)), self.low), self.high)

    def samples(self, n: int) -> list[float]:
        """The means of `n` equal slices, so that the mean of all is exact however heavy the tail."""
        edges = [self.quantile(i / n) for i in range(n + 1)]
        return [min(max(n * self._sum(t, u), t), u) for t, u in pairwise(edges)]

    def _z(self, t: float) -> float:
        return (log(t) - self.mu) / self.sigma

    def _sum(self, t: float, u: float) -> float:
        """E[L; t < L <= u] over all prompts: the integral of a log-normal is one of a normal shifted by sigma."""
        whole = exp(self.mu + self.sigma**2 / 2)
        return whole * _normal_between(self._z(t) - self.sigma, self._z(u) - self.sigma) / self._inside


def _normal_below(z: float) -> float:
    return erfc(-z / sqrt(2)) / 2


def _normal_between(a: float, b: float) -> float:
    """Of the standard normal, mirrored where that is more exact."""
    return _normal_below(-a) - _normal_below(-b) if a > 0 else _normal_below(b) - _normal_below(a)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every prompt is `tokens` long."""

    tokens: float

    def above(self, t: float) -> float:
        return float(self.tokens > t)

    def mean_above(self, t: float) -> float:
        return self.tokens if self.tokens > t else 0.0

    def mean_below(self, t: float) -> float:
        return 0.0 if self.tokens > t else self.tokens

    @property
    def mean(self) -> float:
        return self.tokens

    def quantile(self, q: float) -> float:  # noqa: ARG002 the protocol's
        return self.tokens

    def samples(self, n: int) -> list[float]:
        return [self.tokens] * n


class Empirical:
    """Lengths that were seen, each as likely as the others, or as its weight says."""

    def __init__(self, lengths: Sequence[float], weights: Sequence[float] | None = None) -> None:
        """Raises ConfigError where there are none."""
        if not lengths:
            raise ConfigError("no lengths to take a distribution from; give a trace with at least one request")
        assert weights is None or (len(weights) == len(lengths) and min(weights) > 0)
        pairs = sorted(zip(lengths, weights or [1.0] * len(lengths), strict=True))
        tokens, weight = zip(*pairs, strict=True)
        self._tokens: list[float] = list(map(float, tokens))
        self._weight: list[float] = list(accumulate(weight))
        self._sum: list[float] = list(accumulate(map(mul, tokens, weight)))

    def above(self, t: float) -> float:
        return 1 - self._until(t)[0] / self._weight[-1]

    def mean_above(self, t: float) -> float:
        weight, total = self._until(t)
        return (self._sum[-1] - total) / (self._weight[-1] - weight) if weight < self._weight[-1] else 0.0

    def mean_below(self, t: float) -> float:
        weight, total = self._until(t)
        return total / weight if weight else 0.0

    @property
    def mean(self) -> float:
        return self._sum[-1] / self._weight[-1]

    def quantile(self, q: float) -> float:
        at = bisect_left(self._weight, q * self._weight[-1])
        return self._tokens[min(at, len(self._tokens) - 1)]

    def samples(self, n: int) -> list[float]:
        return [self.quantile((i + 0.5) / n) for i in range(n)]

    def _until(self, t: float) -> tuple[float, float]:
        """Weight, and weighted sum, of those up to `t`."""
        count = bisect_right(self._tokens, t)
        return (self._weight[count - 1], self._sum[count - 1]) if count else (0.0, 0.0)

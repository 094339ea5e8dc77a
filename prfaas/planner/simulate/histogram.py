"""Counts of a positive quantity in bins of equal ratio: quantiles to within 1 %, in memory that does not grow."""

from collections.abc import Sequence
from math import exp, log

from prfaas.planner.simulate.outcome import Spread

LEAST = 1e-6
"""Below it, a value counts as 0."""
_WIDTH = log(1.02)


class Histogram:
    """Two per cent wide bins, each taken at its middle; the mean is exact."""

    __slots__ = ("bins", "count", "total", "zeros")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.zeros = 0
        self.bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        self.count += 1
        if value < LEAST:
            self.zeros += 1
            return
        self.total += value
        index = int(log(value / LEAST) / _WIDTH)
        self.bins[index] = self.bins.get(index, 0) + 1

    def merge(self, other: "Histogram") -> None:
        self.count += other.count
        self.total += other.total
        self.zeros += other.zeros
        for index, number in other.bins.items():
            self.bins[index] = self.bins.get(index, 0) + number

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """At rising shares, 0 to 1: the value that so many do not exceed; 0 for all where nothing was counted."""
        found = []
        bins = iter(sorted(self.bins.items()))
        seen, value = self.zeros, 0.0
        for share in shares:
            while seen < share * self.count or (share == 0 and not seen and self.count):
                index, number = next(bins)
                seen += number
                value = LEAST * exp((index + 0.5) * _WIDTH)
            found.append(value)
        return found

    def spread(self) -> Spread:
        p50, p90, p99 = self.quantiles((0.5, 0.9, 0.99))
        return Spread(self.mean, p50, p90, p99)

"""How fast a workload's own time passes: bursts. Knows no requests."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import inf, prod

from prfaas.config.deployment import BurstSection


class Pace:
    """Turns the time of an even workload into the time at which its requests come.

    With `factor(t)` the product of the bursts that hold at `t`, what an even workload has at `x` comes at the `t` for
    which the integral of `factor` from 0 to `t` is `x`. For Poisson arrivals that is exact.
    """

    def __init__(self, bursts: Sequence[BurstSection] = ()) -> None:
        ends = {0.0, *(b.at_s for b in bursts), *(b.at_s + b.for_s for b in bursts)}
        self._starts = sorted(ends)
        self._factors = [prod(b.factor for b in bursts if b.at_s <= t < b.at_s + b.for_s) for t in self._starts]
        self._even = [0.0]
        for (start, end), factor in zip(pairwise([*self._starts, inf]), self._factors, strict=True):
            self._even.append(self._even[-1] + (end - start) * factor)

    def at_s(self, even_s: float) -> float:
        """When what an even workload has at `even_s` (0 or more) comes."""
        piece = bisect_right(self._even, even_s) - 1
        return self._starts[piece] + (even_s - self._even[piece]) / self._factors[piece]

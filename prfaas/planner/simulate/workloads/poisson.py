"""Independent requests at a mean rate, with lengths of a distribution. No two begin alike."""

from collections.abc import Iterator
from itertools import count
from random import Random

from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.workloads.pace import Pace
from prfaas.policy.lengths import Lengths


class PoissonWorkload:
    """Endless. Gaps are exponential, lengths drawn by the inverse of their distribution; every answer is equally long.

    Times and lengths come from generators of their own: another rate brings the same prompts.
    """

    def __init__(self, lengths: Lengths, *, output_tokens: int, rate_req_s: float, pace: Pace, rng: Random) -> None:
        self._lengths = lengths
        self._output_tokens = output_tokens
        self._rate_req_s = rate_req_s
        self._pace = pace
        self._times = Random(rng.random())
        self._draws = Random(rng.random())

    def arrivals(self) -> Iterator[Arrival]:
        even_s = 0.0
        for number in count():
            even_s += self._times.expovariate(self._rate_req_s)
            tokens = max(1, round(self._lengths.quantile(self._draws.random())))
            yield Arrival(number, self._pace.at_s(even_s), tokens, self._output_tokens)

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:  # noqa: ARG002 - sessions answer to it
        return None

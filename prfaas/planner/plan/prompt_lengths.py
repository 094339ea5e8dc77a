"""How long the prompts of a workload are. Knows neither fleets nor rates."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from prfaas.config.deployment import AgenticSection, FixedSection, LognormalSection, TraceSection, WorkloadSection
from prfaas.planner.simulate.arrival import Arrival, Workload
from prfaas.planner.simulate.workloads.build import build_workload
from prfaas.policy.lengths import Empirical, Fixed, Lengths, Lognormal

PROMPTS = 20_000
"""Of a trace or of sessions, that stand for all."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """Every length `factor` times as long. Uncached lengths are prompts, scaled by 1 - hit rate."""

    prompts: Lengths
    factor: float

    def above(self, t: float) -> float:
        return self.prompts.above(t / self.factor)

    def mean_above(self, t: float) -> float:
        return self.prompts.mean_above(t / self.factor) * self.factor

    def mean_below(self, t: float) -> float:
        return self.prompts.mean_below(t / self.factor) * self.factor

    @property
    def mean(self) -> float:
        return self.prompts.mean * self.factor

    def quantile(self, q: float) -> float:
        return self.prompts.quantile(q) * self.factor

    def samples(self, n: int) -> list[float]:
        return [tokens * self.factor for tokens in self.prompts.samples(n)]


def prompt_lengths(workload: WorkloadSection) -> tuple[Lengths, float]:
    """(lengths of whole prompts, mean output tokens). Raises ConfigError for a trace that cannot be used.

    Log-normal and fixed lengths are taken as they are described; of traces and sessions the first 20,000 prompts are
    drawn as the simulator draws them, all answers being immediate.
    """
    source = workload.input
    match source:
        case LognormalSection():
            lengths = Lognormal(source.mu, source.sigma, source.min_tokens, source.max_tokens)
            return lengths, float(workload.output_tokens)
        case FixedSection():
            return Fixed(source.tokens), float(workload.output_tokens)
        case TraceSection() | AgenticSection():
            drawn = list(islice(_drawn(build_workload(workload, rate_req_s=1.0, seed=0)), PROMPTS))
            output_tokens = sum(arrival.output_tokens for arrival in drawn) / max(1, len(drawn))
            return Empirical([arrival.prompt_tokens for arrival in drawn]), max(1.0, output_tokens)


def _drawn(workload: Workload) -> Iterator[Arrival]:
    further: deque[Arrival] = deque()
    for first in workload.arrivals():
        yield first
        if (turn := workload.answered(first, first.at_s)) is not None:
            further.append(turn)
    while further:
        last = further.popleft()
        yield last
        if (turn := workload.answered(last, last.at_s)) is not None:
            further.append(turn)

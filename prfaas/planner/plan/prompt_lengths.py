"""How long the prompts of a workload are. Knows neither fleets nor rates."""

from dataclasses import dataclass

from prfaas.config.deployment import AgenticSection, FixedSection, LognormalSection, TraceSection, WorkloadSection
from prfaas.planner.simulate.workloads.first_prompts import first_prompts
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
            drawn = first_prompts(workload, PROMPTS)
            output_tokens = sum(arrival.output_tokens for arrival in drawn) / max(1, len(drawn))
            return Empirical([arrival.prompt_tokens for arrival in drawn]), max(1.0, output_tokens)

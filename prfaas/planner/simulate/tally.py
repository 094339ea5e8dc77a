"""Counts what a run does as it goes, in memory that does not grow with it. Knows no instances and no links."""

from dataclasses import dataclass, field

from prfaas.config.deployment import SloSection
from prfaas.planner.simulate.histogram import Histogram
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.outcome import RoleChange, ThresholdChange
from prfaas.planner.simulate.series import Buckets

MOST_CHANGES = 1_000
ROUNDING = 1 + 1e-6
"""A batch that takes just what the objective allows keeps it, however its seconds add up."""


@dataclass(slots=True)
class Latencies:
    """Of the answers that ended."""

    ttft_s: Histogram = field(default_factory=Histogram)
    queue_s: Histogram = field(default_factory=Histogram)
    prefill_s: Histogram = field(default_factory=Histogram)
    transfer_s: Histogram = field(default_factory=Histogram)
    first_token_s: Histogram = field(default_factory=Histogram)
    tpot_s: Histogram = field(default_factory=Histogram)


class Tally:
    """Every request counts, from the first on."""

    def __init__(self, slo: SloSection) -> None:
        self._slo = slo
        self.arrived = 0
        self.ended = 0
        """Finished or refused."""
        self.finished = 0
        self.refused = 0
        self.good = 0
        self.offloaded = 0
        self.cache_transfers = 0
        self.fallbacks: dict[str, int] = {}
        self.first_s = 0.0
        self.last_s = 0.0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.latencies = Latencies()
        self.buckets = Buckets()
        self.thresholds: list[ThresholdChange] = []
        self.roles: list[RoleChange] = []

    def arrives(self, now_s: float) -> None:
        if not self.arrived:
            self.first_s = self.last_s = now_s
        self.arrived += 1
        self.buckets.at(now_s).arrivals += 1

    def refuses(self, now_s: float) -> None:
        self.refused += 1
        self.ended += 1
        self.last_s = now_s

    def places(self, now_s: float, offloaded: bool) -> None:
        bucket = self.buckets.at(now_s)
        bucket.placed += 1
        if offloaded:
            self.offloaded += 1
            bucket.offloaded += 1

    def falls_back(self, reason: str) -> None:
        self.fallbacks[reason] = self.fallbacks.get(reason, 0) + 1

    def answers(self, job: Job) -> None:
        """Its first token left."""
        self.buckets.at(job.first_token_s).ttft_s.add(job.first_token_s - job.arrival.at_s)

    def finishes(self, job: Job) -> None:
        arrival, latencies = job.arrival, self.latencies
        self.finished += 1
        self.ended += 1
        self.last_s = job.finished_s
        self.prompt_tokens += arrival.prompt_tokens
        self.cached_tokens += job.cached_tokens
        self.output_tokens += arrival.output_tokens
        ttft_s = job.first_token_s - arrival.at_s
        latencies.ttft_s.add(ttft_s)
        latencies.queue_s.add(job.prefill_started_s - arrival.at_s)
        latencies.prefill_s.add(job.prefilled_s - job.prefill_started_s)
        latencies.transfer_s.add(job.arrived_s - job.prefilled_s)
        latencies.first_token_s.add(job.first_token_s - job.arrived_s)
        tpot_s = 0.0
        if arrival.output_tokens > 1:
            tpot_s = (job.finished_s - job.first_token_s) / (arrival.output_tokens - 1)
            latencies.tpot_s.add(tpot_s)
        if ttft_s <= self._slo.ttft_s and tpot_s * 1e3 <= self._slo.tpot_ms * ROUNDING:
            self.good += 1
            self.buckets.at(job.finished_s).good += 1

    def retunes(self, change: ThresholdChange) -> None:
        if len(self.thresholds) < MOST_CHANGES:
            self.thresholds.append(change)

    def converts(self, change: RoleChange) -> None:
        self.roles.append(change)

"""What came of a simulation, as plain figures. Knows nothing of how they were counted or how they are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Fidelity = Literal["fluid", "step"]

QUANTILES = (*(i / 100 for i in range(100)), 0.995, 0.999, 1.0)
"""At which `Outcome.ttft_quantiles_s` are given."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one quantity over all requests that have it; all 0 where none has."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Egress:
    """Bytes that crossed between clusters, all links and directions together, encoded as they cross."""

    mean: float
    """Gbit/s, over the whole run."""
    p99_10s: float
    """Gbit/s, over windows of ten seconds."""


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One direction of one link over the whole run."""

    source: str
    target: str
    gbit_s: float
    """That crossed, on average."""
    utilisation: float
    """Share of what it could have carried, 0 to 1."""
    in_bytes: float
    out_bytes: float
    cancelled_bytes: float
    """Given up before they crossed. `in_bytes` is the sum of the other two: nothing is left at the end."""
    usd: float

    @property
    def name(self) -> str:
        return f"{self.source}→{self.target}"


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """The threshold in force from `at_s` on, and why."""

    at_s: float
    threshold_tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoleChange:
    """An instance that was taken out at `at_s` to serve in another role from `ready_s` on."""

    at_s: float
    ready_s: float
    instance_id: str
    role_to: str
    reason: str


@dataclass(frozen=True, slots=True)
class Series:
    """The run over time: every tuple has one figure for each bucket of `bucket_s` seconds, in order."""

    bucket_s: float
    """Ten seconds; twice that, and so on, for runs so long that there would be too many buckets."""
    time_s: tuple[float, ...]
    """Where each bucket begins; 0 is the beginning of the run."""
    arrivals_req_s: tuple[float, ...]
    goodput_req_s: tuple[float, ...]
    """By when answers ended."""
    offloaded_fraction: tuple[float, ...]
    """Of the requests that were placed then."""
    ttft_p90_s: tuple[float, ...]
    """Of the first tokens that left then; 0 where none did."""
    threshold_tokens: tuple[float, ...]
    """As of the bucket's end."""
    gbit_s: Mapping[str, tuple[float, ...]]
    """By link, named "source→target"."""
    capacity_gbit_s: Mapping[str, tuple[float, ...]]
    """What that link could have carried; 0 in an outage."""
    waiting_requests: Mapping[str, tuple[float, ...]]
    """By cluster and role, named "cluster prefill": not yet begun, as of the bucket's end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's run over one workload. Every request counts, from the first on: there is no warm-up."""

    policy: str
    fidelity: Fidelity
    seed: int
    requests: int
    """That arrived; each is in exactly one of `finished` and `refused`."""
    finished: int
    refused: int
    lost: int
    """That ended in no way, or in more than one: always 0, or `simulate` would have raised."""
    duration_s: float
    """Simulated, from the first arrival to the last answer's end."""
    throughput_req_s: float
    """Finished, over `duration_s`."""
    goodput_req_s: float
    """Finished within both of the deployment's objectives (TTFT and TPOT), over `duration_s`."""
    ttft_s: Spread
    """From arrival to the first token: the sum of the four that follow."""
    queue_s: Spread
    """From arrival until the prompt's first chunk began; of a prompt that fell back, until it began again."""
    prefill_s: Spread
    transfer_s: Spread
    """From the end of the prefill until all KV is where it is decoded."""
    first_token_s: Spread
    """From then until the first token leaves the decode instance."""
    tpot_ms: Spread
    """Per token after the first, on average over one answer; of answers of two tokens or more."""
    ttft_quantiles_s: tuple[float, ...]
    """At QUANTILES."""
    egress_gbit_s: Egress
    utilisation: float
    """Of the links that leave `prfaas` clusters, together: bytes that crossed over bytes that could have."""
    links: tuple[LinkUse, ...]
    offloaded_fraction: float
    """Of the requests: their prompt's KV crossed, or was meant to."""
    cached_fraction: float
    """Of all prompt tokens, those that the last prefill found cached."""
    fallbacks: Mapping[str, int]
    """By reason: prompts that the decode instance computed although they had been placed elsewhere."""
    cache_transfers: int
    usd_per_mtok: float
    """Dollars for the instances over `duration_s`, and for bytes, by million tokens of answers."""
    usd_links: float
    """For bytes alone."""
    threshold_tokens: int
    """At the beginning."""
    threshold_changes: tuple[ThresholdChange, ...]
    """The first thousand."""
    role_changes: tuple[RoleChange, ...]
    series: Series

"""A deployment file: what `prfaas plan` and `prfaas simulate` work on. Clusters are counted, not listed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prfaas.config.sections import LoopsSection, Name, PolicySection, PrefixCacheSection, Section


class LognormalSection(Section):
    """Uncached input lengths: log-normal, truncated to [min_tokens, max_tokens]."""

    distribution: Literal["lognormal"] = "lognormal"
    mu: float = Field(gt=0, le=20)
    """Mean of ln(tokens)."""
    sigma: float = Field(gt=0, le=4)
    min_tokens: int = Field(default=1, ge=1)
    max_tokens: int = Field(default=131_072, ge=1)

    @model_validator(mode="after")
    def _some_room(self) -> "LognormalSection":
        if self.min_tokens >= self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} must be below max_tokens {self.max_tokens}")
        return self


class FixedSection(Section):
    """Every prompt has the same length."""

    distribution: Literal["fixed"]
    tokens: int = Field(ge=1)


class TraceSection(Section):
    """Requests of a file: Mooncake JSON lines, or Azure CSV."""

    distribution: Literal["trace"]
    path: Path
    """A relative path starts at the file's folder."""
    rate_scale: float = Field(default=1.0, gt=0)
    """Requests come so many times as fast as they did."""


class AgenticSection(Section):
    """Sessions of many turns: each prompt is all that was said so far, plus what a tool or a person added."""

    distribution: Literal["agentic"]
    sessions: int = Field(ge=1)
    """That run at once; one that ends is followed by another."""
    turns: int = Field(default=20, ge=1)
    """On average, of one session (geometric)."""
    first_tokens: int = Field(default=20_000, ge=1)
    """Median of a session's first prompt (log-normal, sigma 1)."""
    added_tokens: int = Field(default=2_000, ge=1)
    """Median of what is added before each further turn (log-normal, sigma 1)."""
    think_s: float = Field(default=5.0, ge=0)
    """Mean time from an answer's end to the next turn (exponential)."""
    shared_tokens: int = Field(default=4_096, ge=0)
    """A beginning that all sessions have in common."""
    max_tokens: int = Field(default=262_144, ge=1)
    """A session that would exceed this ends."""


InputSection = Annotated[
    LognormalSection | FixedSection | TraceSection | AgenticSection, Field(discriminator="distribution")
]


class BurstSection(Section):
    """For a while, requests come so many times as fast."""

    at_s: float = Field(ge=0)
    for_s: float = Field(gt=0)
    factor: float = Field(gt=0)


class WorkloadSection(Section):
    """What clients ask."""

    input: InputSection
    output_tokens: int = Field(default=1024, ge=1)
    """Mean; every answer has just so many, but where a trace tells them."""
    rate_req_s: float | None = Field(default=None, gt=0)
    """Poisson arrivals of the simulator; null: 0.9 of what the plan says the deployment can do. Traces and sessions
    have rates of their own."""
    hit_rate: float = Field(default=0.0, ge=0, lt=1)
    """Share of every prompt that the plan takes to be cached. The simulator finds out for itself."""
    bursts: tuple[BurstSection, ...] = ()


class SloSection(Section):
    """What an answer must keep to count as good."""

    ttft_s: float = Field(default=10.0, gt=0)
    """Until its first token."""
    tpot_ms: float = Field(default=50.0, gt=0)
    """For each token after that, on average."""


class PlannedClusterSection(Section):
    """Equal instances on one network. `prfaas` clusters only prefill; `pd` clusters prefill and decode."""

    name: Name
    kind: Literal["prfaas", "pd"]
    profile: Path
    """Profile file of its instances; a relative path starts at the file's folder."""
    instances: int = Field(ge=1)
    prefill: int | None = Field(default=None, ge=0)
    """Of a pd cluster's instances; the others decode. Null: what the plan finds best."""


class LinkChangeSection(Section):
    """From `at_s` on, what is given here holds."""

    at_s: float = Field(ge=0)
    gbit_s: float | None = Field(default=None, gt=0)
    rtt_ms: float | None = Field(default=None, ge=0)
    loss: float | None = Field(default=None, ge=0, lt=1)
    up: bool | None = None
    """False: an outage. Nothing gets through until a later change says true."""


class PlannedLinkSection(Section):
    """The way between two clusters, either direction for itself."""

    between: tuple[Name, Name]
    gbit_s: float = Field(gt=0)
    rtt_ms: float = Field(default=10.0, ge=0)
    loss: float = Field(default=0.0, ge=0, lt=1)
    """Share of the packets."""
    usd_per_gb: float = Field(default=0.0, ge=0)
    timeline: tuple[LinkChangeSection, ...] = ()
    repeat_s: float | None = Field(default=None, gt=0)
    """The timeline begins anew after so many seconds; null: it is gone through once."""


class PlannedEngineSection(Section):
    """What the simulator's instances do as the real ones do."""

    page_tokens: int = Field(default=64, ge=1, le=64)
    step_tokens: int = Field(default=8192, ge=1)
    max_running_requests: int | None = Field(default=None, ge=1)
    """Null: twice the profile's max_batch on instances that decode, since requests that wait for their prompt hold a
    place too; 64 on those that prefill."""
    decode_slowdown: float = Field(default=2.0, ge=1)
    prefix_cache: PrefixCacheSection = PrefixCacheSection()


class BaselineSection(Section):
    """A cluster of equal instances, without any other, to compare with."""

    profile: Path
    instances: int = Field(ge=2)


class DeploymentFile(Section):
    """A whole deployment file."""

    name: str = Field(min_length=1)
    workload: WorkloadSection
    slo: SloSection = SloSection()
    clusters: tuple[PlannedClusterSection, ...] = Field(min_length=1)
    links: tuple[PlannedLinkSection, ...] = ()
    policy: PolicySection = PolicySection()
    engine: PlannedEngineSection = PlannedEngineSection()
    loops: LoopsSection = LoopsSection()
    baseline: BaselineSection | None = None
    """The homogeneous PD cluster of the same size; null: all instances of the deployment with the pd profile."""

    def link(self, a: str, b: str) -> PlannedLinkSection | None:
        """The link between two clusters, in either order."""
        return next((link for link in self.links if set(link.between) == {a, b}), None)

"""What a policy may look at, and what it answers: frozen values, built by the router, the planner or the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from prfaas.core.ids import ClusterName, InstanceId

ClusterKind = Literal["prfaas", "pd"]
Role = Literal["prefill", "decode"]
Force = Literal["local", "remote"]


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One live instance as its last heartbeat described it."""

    instance_id: InstanceId
    cluster: ClusterName
    kind: ClusterKind
    role: Role
    control_address: str
    waiting_tokens: int = 0
    """Prompt tokens that it has accepted and not yet prefilled."""
    waiting_requests: int = 0
    running_requests: int = 0
    pages_free: int = 0


@dataclass(frozen=True, slots=True)
class LinkView:
    """The way from one cluster to another, as the instances that sent KV over it measured it."""

    source: ClusterName
    target: ClusterName
    bytes_per_s: float
    """What it delivers when there is enough to send."""
    rtt_s: float
    min_rtt_s: float
    retransmitted: float
    """Share of the bytes, 0 to 1, where it is highest."""
    queued_bytes: int
    """At all instances of the source together."""
    queued_s: float
    """What is queued and on its way takes so long, where it takes longest."""
    age_s: float
    """Since the latest measurement."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The whole fleet at one moment; only instances that may get new requests."""

    instances: tuple[InstanceView, ...]
    links: tuple[LinkView, ...] = ()
    """Those that anybody has measured; a link that nothing crossed yet is not among them."""


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """What of a request matters for its placement."""

    prompt_tokens: int
    cached_tokens: Mapping[InstanceId, int] = field(default_factory=dict)
    """Longest usable prefix on each instance; 0 where absent."""
    whole_on_decode: bool = False
    """Logprobs are asked for, and those of the first token do not travel with the KV."""
    force: Force | None = None
    """Prefill in the decode instance's cluster ("local") or in a `prfaas` cluster ("remote"), whatever the length."""
    exclude: frozenset[InstanceId] = frozenset()
    """Instances that already failed this request."""


@dataclass(frozen=True, slots=True)
class PolicyParams:
    """The knobs of a policy; `threshold_tokens` is `t` of the PrfaaS paper (s3.4)."""

    threshold_tokens: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a request decodes and where its prompt is prefilled, and why."""

    decode: InstanceView
    prefill: InstanceView | None
    """None: on the decode instance itself."""
    uncached_tokens: int
    """Of the prompt, that whoever prefills it has to compute."""
    reason: str

    @property
    def remote(self) -> bool:
        """The prompt's KV crosses from one cluster to another."""
        return self.prefill is not None and self.prefill.cluster != self.decode.cluster

"""What a policy may look at, and what it answers: frozen values, built by the router, the planner or the simulator."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from prfaas.config.sections import CodecName
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.profile import Profile

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
    control_address: str = ""
    waiting_tokens: int = 0
    """Prompt tokens that it has accepted and not yet prefilled."""
    waiting_requests: int = 0
    running_requests: int = 0
    pages_free: int = 0
    max_running: int = 0
    """Requests that it runs at once; 0: not known."""
    profile: Profile | None = None
    """What it takes for a prompt; None: not known, and its queue is counted in tokens alone."""

    @property
    def requests(self) -> int:
        return self.waiting_requests + self.running_requests


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
    utilisation: float = 0.0
    """Share of `bytes_per_s` in use, 0 to 1."""
    usd_per_gb: float = 0.0
    up: bool = True
    """False: nothing gets through at present."""


@dataclass(frozen=True, slots=True)
class ClusterPart:
    """One cluster's instances by role, the least loaded first."""

    name: ClusterName
    kind: ClusterKind
    prefills: tuple[InstanceView, ...] = ()
    """By tokens that wait, then requests, then name."""
    decodes: tuple[InstanceView, ...] = ()
    """By requests, then tokens that wait, then name."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The whole fleet at one moment; only instances that may get new requests.

    A change makes a new view that shares all other clusters with the old one: the router changes one instance at a
    time, a thousand times a second.
    """

    parts: Mapping[ClusterName, ClusterPart]
    by_id: Mapping[InstanceId, InstanceView]
    links: Mapping[tuple[ClusterName, ClusterName], LinkView]
    """By source and target. Those that anybody has measured, or described in a file."""

    @classmethod
    def of(cls, instances: Iterable[InstanceView], links: Iterable[LinkView] = ()) -> "ClusterView":
        """Names that appear twice: the last one counts."""
        by_id = {i.instance_id: i for i in instances}
        parts = {name: _part(name, [i for i in by_id.values() if i.cluster == name]) for name in _clusters(by_id)}
        return cls(parts, by_id, {(link.source, link.target): link for link in links})

    @property
    def instances(self) -> tuple[InstanceView, ...]:
        return tuple(self.by_id.values())

    def updated(self, instance: InstanceView) -> "ClusterView":
        """With one instance taken in, in the place of an earlier view of it."""
        return self._with({**self.by_id, instance.instance_id: instance}, instance.instance_id)

    def without(self, instance_id: InstanceId) -> "ClusterView":
        return self._with({i: v for i, v in self.by_id.items() if i != instance_id}, instance_id)

    def with_links(self, links: Iterable[LinkView]) -> "ClusterView":
        return replace(self, links={(link.source, link.target): link for link in links})

    def _with(self, by_id: Mapping[InstanceId, InstanceView], changed: InstanceId) -> "ClusterView":
        views = [v for v in (self.by_id.get(changed), by_id.get(changed)) if v is not None]
        parts = dict(self.parts)
        for name in {v.cluster for v in views}:
            part = _part(name, [i for i in by_id.values() if i.cluster == name])
            if part.prefills or part.decodes:
                parts[name] = part
            else:
                parts.pop(name, None)
        return ClusterView(parts, by_id, self.links)


def _clusters(by_id: Mapping[InstanceId, InstanceView]) -> list[ClusterName]:
    return list(dict.fromkeys(i.cluster for i in by_id.values()))


def _part(name: ClusterName, members: list[InstanceView]) -> ClusterPart:
    prefills = sorted(
        (i for i in members if i.role == "prefill"), key=lambda i: (i.waiting_tokens, i.requests, i.instance_id)
    )
    decodes = sorted(
        (i for i in members if i.role == "decode"), key=lambda i: (i.requests, i.waiting_tokens, i.instance_id)
    )
    return ClusterPart(name, members[0].kind if members else "pd", tuple(prefills), tuple(decodes))


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """What of a request matters for its placement."""

    prompt_tokens: int
    cached_tokens: Mapping[InstanceId, int] = field(default_factory=dict)
    """Longest usable prefix on each instance, snapshot included where there are states; 0 where absent."""
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
    margin: float = 0.25
    """Which side of the threshold a prompt is on decides, unless the other side is expected to be quicker by this
    share of the time to the first token..."""
    margin_s: float = 0.25
    """...and by so many seconds."""
    usd_per_ttft_s: float = 0.01
    """What a second less until the first token is worth, for bytes that cost money."""
    max_utilisation: float = 0.9
    """Of a link: above it bandwidth is scarce. Cached prefixes then stay where they are."""
    max_link_queue_s: float = 0.5
    """Bytes that wait so long mean the same."""
    stale_link_s: float = 30.0
    """A measurement older than this, on a link that has something to send, is no longer believed."""
    cache_transfers: bool = False
    """Whether a cached prefix may be moved to the cluster that prefills."""
    codecs: frozenset[CodecName] = frozenset({"raw"})
    output_tokens: int = 512
    """Mean length of answers: how long a decode slot is taken."""
    slo_ttft_s: float | None = None
    """When the first token is due; None: whenever it comes."""
    max_queued_requests: int = 10_000
    """Requests that wait for a decode slot in the whole fleet, above which new ones are refused."""


@dataclass(frozen=True, slots=True)
class CacheTransfer:
    """A cached prefix that crosses to where the rest of the prompt is prefilled."""

    source: InstanceView
    tokens: int
    """Of the prompt, from its start, that the receiver holds afterwards."""
    num_bytes: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What a placement is expected to take, in seconds and dollars; parts overlap: they do not add up to `ttft_s`."""

    ttft_s: float
    queue_s: float
    """Until the prefill begins."""
    prefill_s: float
    transfer_s: float
    """From the end of the prefill until all KV is where it is decoded."""
    link_bytes: float = 0.0
    """That cross between clusters, encoded."""
    usd: float = 0.0
    """For those bytes."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a request decodes and where its prompt is prefilled, and why."""

    decode: InstanceView
    prefill: InstanceView | None
    """None: on the decode instance itself."""
    uncached_tokens: int
    """Of the prompt, that whoever prefills it has to compute."""
    reason: str
    cache_transfer: CacheTransfer | None = None
    codec: CodecName = "raw"
    """That `expected` assumes; sender and receiver choose by what they measure."""
    deadline_s: float | None = None
    """Seconds from now by which the first token is due; None: whenever it comes."""
    expected: Expected | None = None
    """None where a policy does not estimate, or an instance's profile is not known."""

    @property
    def remote(self) -> bool:
        """The prompt's KV crosses from one cluster to another."""
        return self.prefill is not None and self.prefill.cluster != self.decode.cluster

"""What a policy may look at, and what it answers: frozen values, built by the router, the planner or the simulator."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from prfaas.config.sections import CodecName
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.instance_view import ClusterKind, InstanceView, Role
from prfaas.policy.leads import Leads, alike
from prfaas.policy.part import ClusterPart

__all__ = [
    "CacheTransfer",
    "ClusterKind",
    "ClusterPart",
    "ClusterView",
    "Expected",
    "Force",
    "InstanceView",
    "LinkView",
    "Placement",
    "PlacementRequest",
    "PolicyParams",
    "Role",
]

Force = Literal["local", "remote"]


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
class ClusterView:
    """The whole fleet at one moment; only instances that may get new requests.

    A change makes a new view that shares all other clusters with the old one: the router changes one instance at a
    time, a thousand times a second.
    """

    parts: Mapping[ClusterName, ClusterPart]
    """Those that have an instance."""
    homes: Mapping[InstanceId, ClusterName]
    """The cluster of each instance."""
    links: Mapping[tuple[ClusterName, ClusterName], LinkView]
    """By source and target. Those that anybody has measured, or described in a file."""
    leads: Leads
    """Those of `parts`."""

    @classmethod
    def of(cls, instances: Iterable[InstanceView], links: Iterable[LinkView] = ()) -> "ClusterView":
        """Names that appear twice: the last one counts."""
        members: dict[ClusterName, list[InstanceView]] = {}
        homes: dict[InstanceId, ClusterName] = {}
        for instance in {i.instance_id: i for i in instances}.values():
            members.setdefault(instance.cluster, []).append(instance)
            homes[instance.instance_id] = instance.cluster
        parts = {name: ClusterPart.of(name, those) for name, those in members.items()}
        return cls(parts, homes, _by_ends(links), Leads.of(parts.values()))

    @property
    def instances(self) -> tuple[InstanceView, ...]:
        """Cluster by cluster; walks them all."""
        return tuple(i for part in self.parts.values() for i in part.members.values())

    @property
    def by_id(self) -> Mapping[InstanceId, InstanceView]:
        """All of them; `find` is the quicker way to one."""
        return {i.instance_id: i for i in self.instances}

    def find(self, instance_id: InstanceId) -> InstanceView | None:
        home = self.homes.get(instance_id)
        return None if home is None else self.parts[home].members[instance_id]

    @property
    def beyond_slots(self) -> int:
        """Requests that wait for a decode slot."""
        return sum(part.beyond_slots for part in self.parts.values())

    @property
    def profiled(self) -> bool:
        """Whether it is known of every instance what a prompt takes it."""
        return self.leads.profiled

    def updated(self, instance: InstanceView) -> "ClusterView":
        """With one instance taken in, in the place of an earlier view of it."""
        home = self.homes.get(instance.instance_id)
        if home is not None and home != instance.cluster:
            return self.without(instance.instance_id).updated(instance)
        part = self.parts.get(instance.cluster)
        changed = part.updated(instance) if part else ClusterPart.of(instance.cluster, [instance])
        parts = {**self.parts, instance.cluster: changed}
        homes = self.homes if home is not None else {**self.homes, instance.instance_id: instance.cluster}
        leads = self.leads if part and alike(part, changed) else Leads.of(parts.values())
        return ClusterView(parts, homes, self.links, leads)

    def without(self, instance_id: InstanceId) -> "ClusterView":
        """An instance that is not there is left out already."""
        home = self.homes.get(instance_id)
        if home is None:
            return self
        parts = dict(self.parts)
        part = parts[home].without(instance_id)
        if part.members:
            parts[home] = part
        else:
            del parts[home]
        homes = {i: c for i, c in self.homes.items() if i != instance_id}
        return ClusterView(parts, homes, self.links, Leads.of(parts.values()))

    def after(self, placement: "Placement") -> "ClusterView":
        """With a request added to the loads of its instances.

        Without it, all requests between two heartbeats would go to the one instance that was idle at the first.
        """
        worker, tokens = placement.prefill, placement.uncached_tokens
        loads = [(placement.decode, 0), (worker, tokens)] if worker else [(placement.decode, tokens)]
        parts = dict(self.parts)
        for instance, more_tokens in loads:
            if home := self.homes.get(instance.instance_id):
                part = parts[home]
                parts[home] = part.updated(part.members[instance.instance_id].plus(1, more_tokens))
        return ClusterView(parts, self.homes, self.links, Leads.of(parts.values()))

    def with_links(self, links: Iterable[LinkView]) -> "ClusterView":
        return replace(self, links=_by_ends(links))


def _by_ends(links: Iterable[LinkView]) -> Mapping[tuple[ClusterName, ClusterName], LinkView]:
    return {(link.source, link.target): link for link in links}


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
    """Instances that already failed this request, or whose context is too short for it."""
    longest: tuple[tuple[InstanceId, int], ...] | None = None
    """Those of `cached_tokens` that are looked at, beside the least loaded instances: a few of each cluster with the
    longest prefixes (`policy.matches.longest`), where there are very many. None: all."""


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
    in_time_s: float | None = None
    """`prfaas`: a first token that comes later is late, however late. None: sooner is always better."""
    max_queued_requests: int = 10_000
    """Requests that wait for a decode slot in the whole fleet, above which new ones are refused."""
    slo_patience: float = 2.0
    """New requests are refused when their first token is expected later than so many times `slo_ttft_s`."""
    decode_prefill: float = 2.0
    """A second of prefill on a decode instance counts as so many: it slows the decodes there, and is slowed by them."""
    remote_min_tokens: int = 8192
    """`isl_or_load`: prompts with more uncached tokens may be prefilled remotely..."""
    remote_max_waiting_tokens: int = 65_536
    """...where fewer tokens than this wait."""


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

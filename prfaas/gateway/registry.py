"""The live table of instances, fed by registrations and heartbeats. Knows no sockets; its clock is injected."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import grpc

from prfaas.config.sections import Address, FleetConfig
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.believed import Believed
from prfaas.gateway.blend import Report
from prfaas.gateway.decode_contexts import DecodeContexts
from prfaas.gateway.described_links import described_links
from prfaas.gateway.live_profiles import LiveProfiles
from prfaas.gateway.live_view import LiveView
from prfaas.gateway.measured_links import InstanceLink, link_views
from prfaas.gateway.registration import RefusedError, check_instance, check_load
from prfaas.policy.outstanding import Ticket
from prfaas.policy.view import ClusterKind, ClusterView, InstanceView, LinkView, Placement, Role
from prfaas.telemetry.metrics import RouterMetrics

State = Literal["up", "draining", "stale"]
STATES: tuple[State, ...] = ("up", "draining", "stale")
ROLES: dict[int, Role] = {pb.ROLE_PREFILL: "prefill", pb.ROLE_DECODE: "decode"}

FORGET_AFTER_S = 300.0
"""A silent instance stays visible for operators so long; then its entry goes."""

RATES_S = 5.0
"""Between two looks at what instances measure of themselves."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Member:
    info: pb.InstanceInfo
    load: pb.Load
    seen_s: float
    view: InstanceView
    links: list[pb.LinkReport] = field(default_factory=list)
    rates: pb.Rates | None = None
    links_s: float = 0.0
    """When they were told."""
    reported_stale: bool = False


@dataclass(frozen=True, slots=True)
class FleetEntry:
    """One instance as an operator sees it; `age_s` is seconds since its last heartbeat."""

    info: pb.InstanceInfo
    role: Role
    state: State
    load: pb.Load
    age_s: float
    view: InstanceView
    """As it was last heard, without what was placed since."""
    rates: pb.Rates | None = None
    """What it measured of itself."""


class Registry:
    """Who is in the fleet, as of the last heartbeats. Instances that fell silent or drain get no new requests."""

    def __init__(
        self,
        config: FleetConfig,
        metrics: RouterMetrics,
        clock: Clock,
        profiles: LiveProfiles | None = None,
    ) -> None:
        """`profiles`: what a prompt takes the instances of a cluster, as far as it is known; none: never known."""
        self._kinds: dict[str, ClusterKind] = {cluster.name: cluster.kind for cluster in config.clusters}
        self._stale_after_s = config.router.missed_heartbeats * config.router.heartbeat_interval_s
        self._metrics = metrics
        self._believed = Believed(self._kinds, metrics)
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self.profiles = profiles or LiveProfiles({}, None, config.engine.max_running_requests)
        self._looked_s = clock()
        self._slots = _slots(config)
        self._any_slots = config.engine.max_running_requests
        self._described = described_links(config)
        self._measured: tuple[LinkView, ...] = ()
        self._live_view = LiveView(self._stale_after_s, self._described)
        self._contexts = DecodeContexts()
        self._on_heard: list[Callable[[], None]] = []

    def when_heard(self, callback: Callable[[], None]) -> None:
        """Called after every registration and heartbeat; it must be quick and raise nothing."""
        self._on_heard.append(callback)

    def register(self, info: pb.InstanceInfo, load: pb.Load) -> None:
        """Takes an instance in, in the place of an earlier life of it. Raises RefusedError with the reason.

        The same life may register again, also in another role: what was placed on it counts, and what it told of links
        and of itself holds.
        """
        check_instance(info, self._kinds)
        check_load(info.instance_id, load)
        known = self._members.get(info.instance_id)
        if known and self._live(known) and known.info.control_address != info.control_address:
            raise RefusedError(
                grpc.StatusCode.ALREADY_EXISTS,
                f"{info.instance_id} is already registered at {known.info.control_address} and alive, so "
                f"{info.control_address} may not use that name; rename one, or try again once the other is gone",
            )
        self._check_fingerprint(info)
        earlier = known if known and known.info.epoch == info.epoch else None
        self._forget(info.instance_id, for_good=earlier is None)
        view = self._view_of(info, load)
        self._members[info.instance_id] = member = _Member(info, load, self._clock(), view)
        if earlier:
            member.links, member.links_s, member.rates = earlier.links, earlier.links_s, earlier.rates
        if view.role == "decode":
            self._contexts.put(view.instance_id, info.max_context_tokens)
        self._show(member)
        log.info("%s of %s registered at %s as %s", info.instance_id, info.cluster, info.control_address, view.role)
        self.refresh_metrics()

    def heartbeat(
        self,
        instance_id: str,
        epoch: int,
        load: pb.Load,
        links: Sequence[pb.LinkReport] = (),
        rates: pb.Rates | None = None,
        *,
        partial: bool = False,
    ) -> bool:
        """Notes a sign of life. False: not known, register again. Raises RefusedError for a load that cannot be.

        `partial`: it tells only of the load, and all else is as it was told before.
        Measurements of links and rates that cannot be are left out: nobody is to lose an instance over them.
        """
        member = self._members.get(instance_id)
        if member is None or member.info.epoch != epoch:
            return False
        self._believed.check_load(instance_id, load)
        if not self._live(member) and self._conflicting(member.info):
            # The fleet moved on to another model while it was silent; only a registration may decide about it.
            self._forget(instance_id)
            return False
        if member.reported_stale:
            log.info("%s is heard again after %.1f s", instance_id, self._clock() - member.seen_s)
        member.load, member.seen_s, member.reported_stale = load, self._clock(), False
        if not partial:
            member.links, member.links_s = self._believed.links(instance_id, links), member.seen_s
            member.rates = self._believed.rates(instance_id, rates)
        member.view = self._view_of(member.info, load)
        self._show(member)
        return True

    def converting(self, instance_id: str, role: pb.Role) -> None:
        """It has begun to change its role, and gets nothing new even before its next heartbeat says so."""
        if member := self._members.get(instance_id):
            begun = pb.Load()
            begun.CopyFrom(member.load)
            begun.draining, begun.converting_to = True, role
            member.load = begun
            self._show(member)

    def deregister(self, instance_id: str, epoch: int) -> None:
        """Takes an instance out; a message of an earlier life changes nothing."""
        member = self._members.get(instance_id)
        if member and member.info.epoch == epoch:
            self._forget(instance_id)
            log.info("%s deregistered", instance_id)
            self.refresh_metrics()

    def placed(self, placement: Placement) -> Ticket:
        """Adds a request to the load of its instances, wherever their heartbeats do not count it themselves.

        Whoever placed it owes `ended`, and `first_token` before that if one came.
        """
        return self._live_view.placed(placement)

    def first_token(self, ticket: Ticket) -> None:
        """Its prompt no longer waits, as of the next heartbeats. Once is enough, more does no harm."""
        self._live_view.first_token(ticket)

    def ended(self, ticket: Ticket) -> None:
        """The attempt is over, whatever the reason; as of the next heartbeats. Once is enough, more does no harm."""
        self._live_view.ended(ticket)

    @property
    def outstanding(self) -> int:
        """Requests that were placed and have not ended."""
        return self._live_view.outstanding

    def view(self) -> ClusterView:
        """The instances that may get new requests, and the links as of the last sweep."""
        return self._live_view.at(self._clock())

    def links(self) -> list[InstanceLink]:
        """What every instance alive measured of the ways to other clusters, however long ago."""
        now = self._clock()
        return [
            InstanceLink(InstanceId(m.info.instance_id), ClusterName(m.info.cluster), report, now - m.links_s)
            for m in self._members.values()
            if self._live(m)
            for report in m.links
        ]

    def max_context_tokens(self) -> int | None:
        """The longest context that a decode instance offers now; None where none is up or one has no limit."""
        view = self.view()
        return self._contexts.longest(view, self._live_view.members)

    def too_small_for(self, tokens: int) -> frozenset[InstanceId]:
        """Decode instances whose own context is shorter than `tokens`."""
        return self._contexts.shorter_than(tokens)

    def entries(self) -> list[FleetEntry]:
        """Everything known, silent and draining instances included."""
        now = self._clock()
        return [
            FleetEntry(m.info, m.view.role, self._state(m), m.load, now - m.seen_s, m.view, m.rates)
            for m in self._members.values()
        ]

    def entry(self, instance_id: str) -> FleetEntry | None:
        """One of `entries`."""
        return next((entry for entry in self.entries() if entry.info.instance_id == instance_id), None)

    def infos(self) -> list[pb.InstanceInfo]:
        """What everything known said of itself."""
        return [m.info for m in self._members.values()]

    def addresses(self) -> frozenset[Address]:
        """Control addresses of everything known."""
        return frozenset(m.info.control_address for m in self._members.values())

    def sweep(self) -> None:
        """Reports instances that fell silent, forgets those long gone. To be called about once per interval."""
        now = self._clock()
        for instance_id, member in list(self._members.items()):
            age_s = now - member.seen_s
            if age_s > max(FORGET_AFTER_S, self._stale_after_s):
                self._forget(instance_id)
                log.warning("%s is forgotten after %.0f s of silence", instance_id, age_s)
            elif not self._live(member) and not member.reported_stale:
                member.reported_stale = True
                log.warning("%s is silent for %.1f s; it gets no new requests", instance_id, age_s)
        self._measured = link_views(self.links(), self._described)
        self._live_view.measured(self._measured)
        if now - self._looked_s >= RATES_S:
            self._looked_s = now
            self._look_at_rates()
        self.refresh_metrics()

    def refresh_metrics(self) -> None:
        """Sets the gauges of instances and links to what is true now."""
        counts = dict.fromkeys(((c, r, s) for c in self._kinds for r in ROLES.values() for s in STATES), 0)
        for member in self._members.values():
            counts[member.info.cluster, member.view.role, self._state(member)] += 1
        for labels, count in counts.items():
            self._metrics.instances.labels(*labels).set(count)
        for cluster in self._kinds:
            self._metrics.loops.profile_measured.labels(cluster).set(self.profiles.measured(ClusterName(cluster)))
        self._metrics.links.read({(v.source, v.target): _gauges(v) for v in self._measured})

    def _look_at_rates(self) -> None:
        """Profiles as the instances alive measure them now."""
        reports: dict[ClusterName, list[Report]] = {}
        for member in self._members.values():
            if member.rates is not None and self._live(member):
                view = member.view
                reports.setdefault(view.cluster, []).append(Report(view.instance_id, view.role, member.rates))
        look = self.profiles.look(reports)
        for name in look.outliers:
            self._believed.outlier(name)
        if look.moved:
            log.info("what a prompt takes is known anew in %s", ", ".join(sorted(look.moved)))
            for member in self._members.values():
                member.view = self._view_of(member.info, member.load)
            self._live_view.reprofiled(member.view for member in self._members.values())

    def _show(self, member: _Member) -> None:
        if member.load.draining:
            self._live_view.drop(member.view.instance_id)
        else:
            self._live_view.put(member.view, member.seen_s)
        for callback in self._on_heard:
            callback()

    def _forget(self, instance_id: str, *, for_good: bool = True) -> None:
        if member := self._members.pop(instance_id, None):
            # Out of the view in any case: what it was may be another role.
            (self._live_view.forget if for_good else self._live_view.drop)(member.view.instance_id)
            self._contexts.drop(member.view.instance_id)
            if for_good:
                self._believed.forget(instance_id)

    def _live(self, member: _Member) -> bool:
        return self._clock() - member.seen_s < self._stale_after_s

    def _state(self, member: _Member) -> State:
        if not self._live(member):
            return "stale"
        return "draining" if member.load.draining else "up"

    def _check_fingerprint(self, info: pb.InstanceInfo) -> None:
        if other := self._conflicting(info):
            raise RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{info.instance_id} serves model fingerprint {info.model_fingerprint}, but the fleet "
                f"(first {other.instance_id}) serves {other.model_fingerprint}; their KV is not interchangeable. "
                "Start it with the same checkpoint, dtype and version",
            )

    def _conflicting(self, info: pb.InstanceInfo) -> pb.InstanceInfo | None:
        """The fleet's first live instance, not counting an earlier life of this one, if its model is another."""
        others = (m for i, m in self._members.items() if i != info.instance_id and self._live(m))
        first = next(others, None)
        return first.info if first and first.info.model_fingerprint != info.model_fingerprint else None

    def _view_of(self, info: pb.InstanceInfo, load: pb.Load) -> InstanceView:
        return InstanceView(
            instance_id=InstanceId(info.instance_id),
            cluster=ClusterName(info.cluster),
            kind=self._kinds[info.cluster],
            role=ROLES[info.role],
            control_address=info.control_address,
            waiting_tokens=load.waiting_tokens,
            waiting_requests=load.waiting_requests,
            running_requests=load.running_requests,
            pages_free=load.pages_total - load.pages_used,
            max_running=self._slots.get(info.instance_id, self._any_slots),
            profile=self.profiles.of(ClusterName(info.cluster)),
        )


def _slots(config: FleetConfig) -> dict[str, int]:
    """Requests that instances run at once, where they have an engine section of their own."""
    own = ((instance.name, instance.engine) for cluster in config.clusters for instance in cluster.instances)
    return {name: engine.max_running_requests for name, engine in own if engine}


def _gauges(link: LinkView) -> dict[str, float]:
    return {
        "bytes_per_second": link.bytes_per_s,
        "rtt_seconds": link.rtt_s,
        "retransmitted_ratio": link.retransmitted,
        "queued_bytes": link.queued_bytes,
        "age_seconds": link.age_s,
    }

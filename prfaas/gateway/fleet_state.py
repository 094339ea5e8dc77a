"""Puts the fleet as this router sees it together, for pages and tools. Decides nothing; its clocks are injected."""

from collections.abc import Callable
from dataclasses import dataclass, field

from prfaas.config.sections import FleetConfig
from prfaas.core.clock import Clock
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.directory import Directory
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.fleet_history import FleetHistory, Sample
from prfaas.gateway.fleet_instances import NEVER_S, instance_reply, link_reply, path_reply
from prfaas.gateway.fleet_reply import (
    AdmissionReply,
    ClusterReply,
    FleetReply,
    HitsReply,
    InstanceReply,
    PlacementReply,
    PrefixesReply,
)
from prfaas.gateway.gate import Gate
from prfaas.gateway.loop_reply import loops_reply
from prfaas.gateway.loop_state import LoopState
from prfaas.gateway.placement_log import Placed
from prfaas.gateway.registry import FleetEntry, Registry
from prfaas.policy.view import ClusterView, LinkView

REQUEST_CHARACTERS = 20
"""Of a request's id: enough to find it in a log."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """Reads all parts of a router; walks all instances, so it is to be asked when somebody looks."""

    config: FleetConfig
    registry: Registry
    directory: Directory
    dispatcher: Dispatcher
    gate: Gate
    clock: Clock
    unix_time: Clock
    loops: Callable[[], LoopState] | None = None
    history: FleetHistory = field(default_factory=FleetHistory)

    def sample(self) -> Sample:
        """Adds this second to the history."""
        return self.history.add(
            self.unix_time(),
            self.dispatcher.params.now.threshold_tokens,
            self.dispatcher.placements,
            self.dispatcher.room.waiting,
            self._links(self.registry.view()),
        )

    def reply(self) -> FleetReply:
        """All of it, as of now."""
        view, entries, workers = self.registry.view(), self.registry.entries(), self.config.router.siblings
        control = self.config.router.control_dial
        offset_s = self.unix_time() - self.clock()
        hits = self.dispatcher.placements.hits
        return FleetReply(
            unix_s=round(self.unix_time(), 3),
            model=self.config.model.name,
            policy=self.config.policy.name,
            worker=workers.index(control) if control in workers else None,
            workers=max(1, len(workers)),
            threshold_tokens=self.dispatcher.params.now.threshold_tokens,
            draining=self.gate.draining,
            clusters=self._clusters(entries),
            instances=[self._instance(entry, view) for entry in entries],
            links=[link_reply(link) for link in self.registry.links()],
            paths=[path_reply(link) for link in self._links(view)],
            loops=loops_reply(self.loops(), offset_s) if self.loops else None,
            placements=[_placement(row, offset_s) for row in self.dispatcher.placements.latest()],
            hits=HitsReply(_rounded(hits.predicted), _rounded(hits.realised)),
            admission=self._admission(),
            latest=self.history.latest,
        )

    def _clusters(self, entries: list[FleetEntry]) -> list[ClusterReply]:
        members: dict[str, list[InstanceId]] = {cluster.name: [] for cluster in self.config.clusters}
        for entry in entries:
            members[entry.info.cluster].append(entry.view.instance_id)
        known = {name: self.directory.known(*ids) for name, ids in members.items()}
        return [
            ClusterReply(
                cluster.name,
                cluster.kind,
                self.registry.profiles.measured(ClusterName(cluster.name)),
                PrefixesReply(known[cluster.name].blocks, known[cluster.name].snapshots),
            )
            for cluster in self.config.clusters
        ]

    def _instance(self, entry: FleetEntry, view: ClusterView) -> InstanceReply:
        name = entry.view.instance_id
        hit_rate = self.dispatcher.placements.hits.of(name)
        return instance_reply(entry, view.find(name), self.directory.known(name), hit_rate)

    def _links(self, view: ClusterView) -> list[LinkView]:
        """Those that were measured, and those from prfaas clusters in any case."""
        return [
            link
            for link in view.links.values()
            if link.age_s != NEVER_S or self._kind(link.source) == "prfaas" != self._kind(link.target)
        ]

    def _kind(self, name: str) -> str:
        cluster = self.config.cluster(name)
        return cluster.kind if cluster else ""

    def _admission(self) -> AdmissionReply:
        room = self.dispatcher.room
        return AdmissionReply(
            outstanding=self.registry.outstanding,
            waiting_interactive=room.waiting_in("interactive"),
            waiting_batch=room.waiting_in("batch"),
            max_waiting=self.config.admission.max_waiting_requests,
            refused=dict(self.dispatcher.metrics.admission.tally),
        )


def _placement(row: Placed, offset_s: float) -> PlacementReply:
    placement = row.placement
    expected, moved = placement.expected, placement.cache_transfer
    return PlacementReply(
        number=row.number,
        request=row.request_id[:REQUEST_CHARACTERS],
        unix_s=_unix(row.at_s, offset_s),
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.prompt_tokens - placement.uncached_tokens,
        decision=row.decision,
        prefill=(placement.prefill or placement.decode).instance_id,
        decode=placement.decode.instance_id,
        reason=placement.reason,
        expected_ttft_s=_rounded(expected.ttft_s if expected else None),
        ttft_s=_rounded(row.ttft_s),
        outcome=row.outcome,
        code=row.code,
        attempt=row.attempt,
        cache_from=moved.source.instance_id if moved else None,
    )


def _unix(at_s: float, offset_s: float) -> float:
    """Tenths: what both clocks differ by is never exactly the same."""
    return round(at_s + offset_s, 1)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)

"""Endpoints for operators and their tools: liveness, readiness, metrics, and who is in the fleet."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from prfaas.config.sections import FleetConfig, split_address
from prfaas.control.convert import ROLE_FROM_PB
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.ids import InstanceId
from prfaas.gateway.directory import Directory
from prfaas.gateway.errors import RETRY_AFTER_S, ApiError
from prfaas.gateway.gate import Gate
from prfaas.gateway.loop_reply import LoopsReply, loops_reply
from prfaas.gateway.loop_state import LoopState
from prfaas.gateway.measured_links import InstanceLink
from prfaas.gateway.policy_params import LiveParams
from prfaas.gateway.registry import FleetEntry, Registry, State
from prfaas.policy.view import Role
from prfaas.telemetry.metrics import RouterMetrics

JSON = "application/json"


class LoadReply(msgspec.Struct, frozen=True):
    """An instance's load as its last heartbeat said it."""

    waiting_requests: int
    running_requests: int
    waiting_tokens: int
    pages_used: int
    pages_total: int
    pages_cached: int


class PrefixesReply(msgspec.Struct, frozen=True):
    """What this router knows of an instance's prefix cache: numbers of KV blocks, and of snapshots of states."""

    blocks: int
    snapshots: int


class InstanceReply(msgspec.Struct, frozen=True):
    """`age_s`: seconds since the last heartbeat; `role_age_s`: since it began to serve in its role.

    `converting_to`: the role for which it drains, if it does.
    """

    name: str
    cluster: str
    role: Role
    state: State
    age_s: float
    converting_to: Role | None
    role_age_s: float
    epoch: int
    control_address: str
    data_address: str
    metrics_address: str
    model_fingerprint: str
    max_context_tokens: int
    block_tokens: int
    kv_events_address: str
    load: LoadReply
    prefixes: PrefixesReply


class ClusterReply(msgspec.Struct, frozen=True):
    name: str
    kind: str
    prefixes: PrefixesReply
    """Of all its instances together; what several have counts as often."""


class LinkReply(msgspec.Struct, frozen=True):
    """The way from an instance to a cluster, as the instance measured it; `age_s`: seconds since bytes crossed.

    `at_least`: there never was enough to send to tell whether it carries more.
    """

    instance: str
    source: str
    target: str
    bytes_per_s: float
    at_least: bool
    rtt_s: float
    min_rtt_s: float
    retransmitted: float
    utilisation: float
    queued_s: float
    queued_bytes: int
    streams: int
    age_s: float


class FleetReply(msgspec.Struct, frozen=True):
    """The fleet as this router sees it; `threshold_tokens` is above what prompts go to a prfaas cluster now.

    `loops` is null where this router has none.
    """

    model: str
    policy: str
    threshold_tokens: int
    draining: bool
    clusters: list[ClusterReply]
    instances: list[InstanceReply]
    links: list[LinkReply]
    loops: LoopsReply | None


class ReadyReply(msgspec.Struct, frozen=True):
    """`reasons` says why not, where `ready` is false."""

    ready: bool
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class StatusApi:
    """Handlers that generate nothing; they answer while the router drains, too."""

    config: FleetConfig
    registry: Registry
    gate: Gate
    metrics: RouterMetrics
    directory: Directory
    params: LiveParams
    clock: Clock
    loops: Callable[[], LoopState] | None = None

    async def health(self, http: HttpRequest) -> Response:  # noqa: ARG002 — every handler gets the request
        """`GET /health`: the process lives."""
        return Response(b'{"status":"ok"}', media_type=JSON)

    async def ready(self, http: HttpRequest) -> Response:  # noqa: ARG002 — every handler gets the request
        """`GET /ready`: 200 if a request could be served now, else 503 with the reasons."""
        reasons = self._reasons()
        body = msgspec.json.encode(ReadyReply(not reasons, reasons))
        headers = {"retry-after": str(RETRY_AFTER_S)} if reasons else {}
        return Response(body, 503 if reasons else 200, headers, JSON)

    async def prometheus(self, http: HttpRequest) -> Response:
        """`GET /metrics`: what this process counted, so not where several processes answer in turns."""
        router = self.config.router
        if router.siblings and http.scope["server"][1] == split_address(router.http)[1]:
            raise ApiError(404, "each worker has its own metrics: ask them at router.worker_http", code="not_found")
        self.registry.refresh_metrics()
        total = self.directory.total
        self.metrics.directory.labels("kv").set(total.blocks)
        self.metrics.directory.labels("state").set(total.snapshots)
        return Response(generate_latest(self.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def fleet(self, http: HttpRequest) -> Response:  # noqa: ARG002 — every handler gets the request
        """`GET /fleet`"""
        reply = FleetReply(
            model=self.config.model.name,
            policy=self.config.policy.name,
            threshold_tokens=self.params.now.threshold_tokens,
            draining=self.gate.draining,
            clusters=[
                ClusterReply(cluster.name, cluster.kind, self._prefixes(cluster.name))
                for cluster in self.config.clusters
            ],
            instances=[self._instance(entry) for entry in self.registry.entries()],
            links=[_link(link) for link in self.registry.links()],
            loops=loops_reply(self.loops(), self.clock()) if self.loops else None,
        )
        return Response(msgspec.json.encode(reply), media_type=JSON)

    def _reasons(self) -> list[str]:
        reasons = ["the router is draining"] if self.gate.draining else []
        decodes = [entry for entry in self.registry.entries() if entry.role == "decode"]
        if not decodes:
            reasons.append("no decode instance has registered")
        elif not any(entry.state == "up" for entry in decodes):
            reasons += [
                f"{entry.info.instance_id} is {entry.state}, heard {entry.age_s:.1f} s ago" for entry in decodes
            ]
        return reasons

    def _prefixes(self, cluster: str) -> PrefixesReply:
        ids = [entry.info.instance_id for entry in self.registry.entries() if entry.info.cluster == cluster]
        known = self.directory.known(*map(InstanceId, ids))
        return PrefixesReply(known.blocks, known.snapshots)

    def _instance(self, entry: FleetEntry) -> InstanceReply:
        known = self.directory.known(InstanceId(entry.info.instance_id))
        return _instance(entry, PrefixesReply(known.blocks, known.snapshots))


def _instance(entry: FleetEntry, prefixes: PrefixesReply) -> InstanceReply:
    info = entry.info
    return InstanceReply(
        name=info.instance_id,
        cluster=info.cluster,
        role=entry.role,
        state=entry.state,
        age_s=round(entry.age_s, 3),
        converting_to=ROLE_FROM_PB.get(entry.load.converting_to),
        role_age_s=round(entry.load.role_age_s, 3),
        epoch=info.epoch,
        control_address=info.control_address,
        data_address=info.data_address,
        metrics_address=info.metrics_address,
        model_fingerprint=info.model_fingerprint,
        max_context_tokens=info.max_context_tokens,
        block_tokens=info.block_tokens,
        kv_events_address=info.kv_events_address,
        load=_load(entry.load),
        prefixes=prefixes,
    )


def _load(load: pb.Load) -> LoadReply:
    return LoadReply(
        waiting_requests=load.waiting_requests,
        running_requests=load.running_requests,
        waiting_tokens=load.waiting_tokens,
        pages_used=load.pages_used,
        pages_total=load.pages_total,
        pages_cached=load.pages_cached,
    )


def _link(link: InstanceLink) -> LinkReply:
    report = link.report
    return LinkReply(
        instance=link.instance_id,
        source=link.source,
        target=report.cluster,
        bytes_per_s=round(report.bytes_per_s),
        at_least=report.at_least,
        rtt_s=report.rtt_s,
        min_rtt_s=report.min_rtt_s,
        retransmitted=report.retransmitted,
        utilisation=round(report.utilisation, 3),
        queued_s=round(report.queued_s, 3),
        queued_bytes=report.queued_bytes,
        streams=report.streams,
        age_s=round(link.age_s, 3),
    )

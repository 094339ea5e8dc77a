"""Endpoints for operators and their tools: liveness, readiness, metrics, and who is in the fleet."""

from dataclasses import dataclass, field

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from prfaas.config.sections import FleetConfig, split_address
from prfaas.gateway.directory import Directory
from prfaas.gateway.errors import RETRY_AFTER_S, ApiError
from prfaas.gateway.fleet_events import FleetEventStream
from prfaas.gateway.fleet_watch import FleetWatch
from prfaas.gateway.gate import Gate
from prfaas.gateway.page.compose import Page
from prfaas.gateway.registry import Registry
from prfaas.telemetry.metrics import RouterMetrics

JSON = "application/json"


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
    watch: FleetWatch
    page: Page = field(default_factory=Page.load)

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
        return Response(msgspec.json.encode(self.watch.state.reply()), media_type=JSON)

    async def fleet_events(self, http: HttpRequest) -> Response:  # noqa: ARG002 — every handler gets the request
        """`GET /fleet/events`: server-sent events; `start` (FleetStart) first, then `change` (FleetChange) each second.

        A listener that does not read is sent away, and so are all when the router drains.
        """
        return FleetEventStream(self.watch, self.gate)

    async def ui(self, http: HttpRequest) -> Response:  # noqa: ARG002 — every handler gets the request
        """`GET /ui`: the live page."""
        return Response(self.page.body, headers=self.page.headers, media_type="text/html; charset=utf-8")

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

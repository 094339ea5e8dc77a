"""What a router counts about its clients' connections. Knows no HTTP."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

Cut = Literal["head_slow", "head_large", "body_unread", "idle", "stalled", "pipelined", "malformed"]


class ConnectionMetrics:
    """Connections of HTTP clients, and those that were ended from this side for what their clients did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("prfaas_router_connections", "Open connections of HTTP clients", registry=registry)
        self.refused = Counter(
            "prfaas_router_connections_refused_total",
            "Connections beyond router.max_connections, answered 503",
            registry=registry,
        )
        self._cut = Counter(
            "prfaas_router_connections_cut_total",
            "Connections that this side ended, by what their client did or did not do",
            ["reason"],
            registry=registry,
        )

    def cut(self, reason: Cut) -> None:
        """One connection was ended."""
        self._cut.labels(reason).inc()

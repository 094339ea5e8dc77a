"""What a router counts about those who watch it. Knows no fleet."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class WatchMetrics:
    """Pages and terminals that listen to `/fleet/events`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.listeners = Gauge("prfaas_router_watchers", "Listeners to the events of the fleet", registry=registry)
        self.ended = Counter(
            "prfaas_router_watchers_ended_total",
            "Listeners sent away: too slow to read (slow), or too many (full)",
            ["reason"],
            registry=registry,
        )

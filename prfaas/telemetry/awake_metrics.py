"""Whether a router's event loop runs. Knows no loop."""

from prometheus_client import CollectorRegistry, Counter


class AwakeMetrics:
    """Of one router process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stalled_seconds = Counter(
            "prfaas_router_stalled_seconds_total",
            "Seconds in which this process did not get to run, beyond 0.5 s at a time; clients waited for so long",
            registry=registry,
        )

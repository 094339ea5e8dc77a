"""What a router counts about requests that are placed a second time. Knows no requests."""

from prometheus_client import CollectorRegistry, Counter


class RetryMetrics:
    """`kind` is retry or hedge."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.retries = Counter(
            "prfaas_router_retries_total", "Requests placed again after a failure", ["code"], registry=registry
        )
        self.continued = Counter(
            "prfaas_router_continued_total",
            "Of them, those whose answer had begun, and went on elsewhere",
            registry=registry,
        )
        self.refused = Counter(
            "prfaas_router_retries_refused_total",
            "Requests that were not placed a second time because too many had been",
            ["kind"],
            registry=registry,
        )
        self.hedges = Counter(
            "prfaas_router_hedges_total",
            "Requests sent to a second decode instance because the first was slow",
            registry=registry,
        )
        self.hedges_won = Counter(
            "prfaas_router_hedges_won_total", "Of them, those that the second one answered", registry=registry
        )

"""What an instance counts about prefixes that it fetches from others' caches. Knows names, not what they count."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WAITED_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class PrefixFetchMetrics:
    """`prfaas_instance_prefix_*`. `result` is ok, held, busy, late, or a code of `prfaas.core.errors`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.fetches = Counter(
            "prfaas_instance_prefix_fetches_total",
            "Prefixes that were to be fetched from another instance's cache, by what became of them",
            ["result"],
            registry=registry,
        )
        self.tokens = Counter(
            "prfaas_instance_prefix_fetched_tokens_total", "Prompt tokens whose KV came that way", registry=registry
        )
        self.under_way = Gauge(
            "prfaas_instance_prefix_fetches_under_way", "Prefixes being fetched now", registry=registry
        )
        self.waited = Histogram(
            "prfaas_instance_prefix_fetch_wait_seconds",
            "That a request waited for its prefix before it was computed",
            buckets=WAITED_S,
            registry=registry,
        )
        self.given_up = Counter(
            "prfaas_instance_prefix_waits_given_up_total",
            "Requests whose prompt was computed since their prefix took too long",
            registry=registry,
        )

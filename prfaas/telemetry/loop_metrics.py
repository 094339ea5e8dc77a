"""What the router's two loops see and do, and what instances say of themselves that cannot be. Knows no policy."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class RouterLoopMetrics:
    """`prfaas_router_…`: the threshold, and what it and the roles rest on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.threshold_tokens = Gauge(
            "prfaas_router_threshold_tokens",
            "Prompts with more uncached tokens are prefilled remotely",
            registry=registry,
        )
        self.threshold_changes = Counter(
            "prfaas_router_threshold_changes_total", "Times that the short loop moved the threshold", registry=registry
        )
        self.retuning = Gauge(
            "prfaas_router_retuning",
            "1 while the threshold follows load and link, 0 while it is held",
            registry=registry,
        )
        self.queue_seconds = Gauge(
            "prfaas_router_queue_seconds",
            "Mean time until a prompt's prefill begins, by kind of cluster",
            ["kind"],
            registry=registry,
        )
        self.lambda_max = Gauge(
            "prfaas_router_lambda_max",
            "Requests per second that the fleet can keep up with at the best threshold, as the throughput model says",
            registry=registry,
        )
        self.profile_measured = Gauge(
            "prfaas_router_profile_measured",
            "1 where the times of a cluster's instances are measured, 0 where they are a file's",
            ["cluster"],
            registry=registry,
        )
        self.refused = Counter(
            "prfaas_router_reports_refused_total",
            "Loads (load), rates (rates) and rates far from those of the peers (outlier) that were not believed",
            ["what"],
            registry=registry,
        )

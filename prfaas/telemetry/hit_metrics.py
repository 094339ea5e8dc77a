"""What the directory said that instances had cached, and what they found. Knows metric names, not prompts."""

from prometheus_client import CollectorRegistry, Counter


class HitMetrics:
    """By the cluster that the prompt's prefill was placed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.predicted_tokens = Counter(
            "prfaas_router_predicted_hit_tokens_total",
            "Prompt tokens of answered requests that the directory said need not be computed",
            ["cluster"],
            registry=registry,
        )
        self.realised_tokens = Counter(
            "prfaas_router_realised_hit_tokens_total",
            "Prompt tokens of answered requests that were not computed",
            ["cluster"],
            registry=registry,
        )
        self.overpredictions = Counter(
            "prfaas_router_overpredicted_hits_total",
            "Answered requests of which less was cached than the directory said, where it was to be prefilled",
            ["cluster"],
            registry=registry,
        )
        self.overpredicted_tokens = Counter(
            "prfaas_router_overpredicted_hit_tokens_total",
            "Prompt tokens of them that had to be computed after all",
            ["cluster"],
            registry=registry,
        )

"""Whether emulated engines keep the time of their profiles. Knows metric names, not engines."""

from prometheus_client import CollectorRegistry, Histogram

LATE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class EmulationMetrics:
    """`prfaas_emulation_*`: of an instance whose engine computes nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._late = Histogram(
            "prfaas_emulation_late_seconds",
            "By how much an emulated step ended after the moment that its profile says",
            buckets=LATE_S,
            registry=registry,
        )

    def stepped(self, late_s: float | None) -> None:
        """A step ended; None: it was computed, and nothing says when it should have."""
        if late_s is not None:
            self._late.observe(late_s)

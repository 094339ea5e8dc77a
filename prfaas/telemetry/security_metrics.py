"""What a process counts about certificates: its own, and those of peers that it refused. Knows no certificates."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class SecurityMetrics:
    """Without samples where `security.mode` is plain."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._expiry = Gauge(
            "prfaas_certificate_expiry_timestamp_seconds",
            "Unix time at which this process's certificate (cert), or its authority's (ca), expires",
            ["file"],
            registry=registry,
        )
        self._reloads = Counter(
            "prfaas_certificate_reloads_total",
            "Times that changed certificate files were read: ok, or failed (the old ones stay in use)",
            ["result"],
            registry=registry,
        )
        self._refused = Counter(
            "prfaas_peers_refused_total",
            "Peers whose certificate, or name in it, was refused, by plane: control or data",
            ["plane"],
            registry=registry,
        )

    def note(self, what: str) -> None:
        """Counts an event of `prfaas.control.credentials.Note`."""
        counters = {
            "reloaded": self._reloads.labels("ok"),
            "reload_failed": self._reloads.labels("failed"),
            "data_refused": self._refused.labels("data"),
            "control_refused": self._refused.labels("control"),
        }
        counters[what].inc()

    def follow(self, cert_expiry_s: Callable[[], float], ca_expiry_s: Callable[[], float]) -> None:
        """Both are asked at every scrape."""
        self._expiry.labels("cert").set_function(cert_expiry_s)
        self._expiry.labels("ca").set_function(ca_expiry_s)

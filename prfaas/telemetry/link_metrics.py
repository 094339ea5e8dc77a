"""What is measured of the ways between clusters, at instances and at the router. Knows metric names, not links."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

_INSTANCE = {
    "bytes_per_second": "Payload that the link to a cluster delivers when there is enough to send",
    "rtt_seconds": "Round trip now; through a proxy, the shortest of the greetings",
    "min_rtt_seconds": "Shortest round trip of the last minutes",
    "retransmitted_ratio": "Share of the bytes that TCP sent again",
    "queued_seconds": "Time that what waits and what is on its way will take",
    "queued_bytes": "Raw bytes of objects that wait for a connection",
    "in_flight_bytes": "Payload sent and not acknowledged",
    "streams": "Open data connections",
    "utilisation_ratio": "Share of time with bytes in flight",
    "window_bytes": "Payload that may be in flight",
}
_ROUTER = {
    "bytes_per_second": "Payload that the link from one cluster to another delivers, as instances measured it",
    "rtt_seconds": "Round trip, by the latest report",
    "retransmitted_ratio": "Share of the bytes that TCP sent again, where it is highest",
    "queued_bytes": "Raw bytes of objects that wait for the link, at all instances",
    "age_seconds": "Since the latest measurement",
}


class LinkMetrics:
    """`prfaas_link_*`: an instance's links, by the cluster that they lead to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            key: Gauge(f"prfaas_link_{key}", text, ["cluster"], registry=registry) for key, text in _INSTANCE.items()
        }
        self._congestion_control = Gauge(
            "prfaas_link_congestion_control",
            "1 for the TCP congestion control that data connections to a cluster have",
            ["cluster", "name"],
            registry=registry,
        )
        self.refused_congestion_control = Counter(
            "prfaas_link_congestion_control_refused_total",
            "Algorithms that would suit a link, and that the kernel lacks or keeps for root",
            ["name"],
            registry=registry,
        )
        self.failures = Counter(
            "prfaas_link_sampler_failures_total", "Looks at the links that broke", registry=registry
        )
        self._names: dict[str, frozenset[str]] = {}

    def read(self, cluster: str, values: Mapping[str, float]) -> None:
        """Sets the gauges of one link, by the keys above; one that is not known yet is left out."""
        for key, value in values.items():
            self._gauges[key].labels(cluster).set(value)

    def use(self, cluster: str, names: frozenset[str]) -> None:
        """The congestion control of the connections to a cluster; while it changes there are two."""
        for gone in self._names.get(cluster, frozenset()) - names:
            self._congestion_control.remove(cluster, gone)
        for name in names:
            self._congestion_control.labels(cluster, name).set(1)
        self._names[cluster] = names


class RouterLinkMetrics:
    """`prfaas_router_link_*`: the fleet's links, by the clusters at their ends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            key: Gauge(f"prfaas_router_link_{key}", text, ["source", "cluster"], registry=registry)
            for key, text in _ROUTER.items()
        }
        self.refused = Counter(
            "prfaas_router_link_reports_refused_total",
            "Measurements of links that cannot be, and that were left out",
            registry=registry,
        )

    def read(self, links: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
        """Sets the gauges of all links that anybody measures now, by source and cluster, and drops the others."""
        for gauge in self._gauges.values():
            gauge.clear()
        for labels, values in links.items():
            for key, value in values.items():
                self._gauges[key].labels(*labels).set(value)

"""Looks at all peers several times a second: measures the links, adapts their connections, tells what it found.

It owns one thread. What to conclude and what to change is decided by pure functions; this is where they meet sockets.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prfaas.config.sections import TransportSection
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.telemetry.link_metrics import LinkMetrics
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.congestion import may_set
from prfaas.transport.link_estimator import LinkEstimate, LinkEstimator
from prfaas.transport.link_reader import MeasuredPeer
from prfaas.transport.link_sample import LinkSample, merge
from prfaas.transport.peer_tuner import PeerTuner

log = logging.getLogger(__name__)

INTERVAL_S = 0.15
LEAST_INTERVAL_S = 0.01
"""Looks closer to each other measure the clock."""


class Peers(Protocol):
    """What the sampler needs of the outbox."""

    def peers(self) -> Sequence[MeasuredPeer]: ...


@dataclass(slots=True)
class _Link:
    """The way to one cluster; `measured_s` is when bytes were last in flight."""

    estimator: LinkEstimator
    measured_s: float | None = None


class LinkSampler:
    """Measures the links of one instance. `reports` and `rate_bytes_s` may be called on any thread."""

    def __init__(
        self,
        outbox: Peers,
        config: TransportSection,
        metrics: InstanceMetrics,
        clock: Clock,
        described_bytes_s: Mapping[str, float] | None = None,
    ) -> None:
        """`described_bytes_s`: what the link to each cluster should carry by the fleet file."""
        self._outbox = outbox
        self._config = config
        self._metrics: LinkMetrics = metrics.links
        self._clock = clock
        self._tuners: dict[MeasuredPeer, PeerTuner] = {}
        self._described = described_bytes_s or {}
        self._links: dict[str, _Link] = {}
        self._settable: dict[str, bool] = {}
        self._sampled_s = clock()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link-sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Waits for the thread; it may never have been started."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def reports(self) -> list[pb.LinkReport]:
        """What is known of each link that bytes ever crossed, for the router."""
        now = self._clock()
        with self._lock:
            known = [
                (cluster, link.estimator.estimate, now - link.measured_s)
                for cluster, link in self._links.items()
                if link.measured_s is not None
            ]
        return [_report(*link) for link in known]

    def rate_bytes_s(self, cluster: str) -> float | None:
        """What the link to a cluster delivers when there is enough to send; None until measured."""
        with self._lock:
            link = self._links.get(cluster)
            return link.estimator.estimate.rate_bytes_s if link else None

    def sample(self) -> None:
        """One look at all peers; the thread's own work, and a test's where time is played."""
        now = self._clock()
        if now - self._sampled_s < LEAST_INTERVAL_S:
            return
        interval_s, self._sampled_s = now - self._sampled_s, now
        samples = self._read(now)
        by_cluster: defaultdict[str, list[MeasuredPeer]] = defaultdict(list)
        for peer in samples:
            by_cluster[peer.cluster].append(peer)
        for cluster in self._links.keys() | by_cluster.keys():
            peers = by_cluster.get(cluster, [])
            self._take(cluster, {peer: samples[peer] for peer in peers}, now, interval_s)

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_S):
            try:
                self.sample()
            except Exception:  # the thread's edge: without it the links would look the same for ever
                self._metrics.failures.inc()
                log.exception("looking at the links broke")

    def _read(self, now: float) -> dict[MeasuredPeer, LinkSample]:
        """Of peers that were there before; a new one is first read in the next interval."""
        present = list(self._outbox.peers())
        for gone in self._tuners.keys() - set(present):
            del self._tuners[gone]
        samples = {peer: self._tuners[peer].read(now) for peer in present if peer in self._tuners}
        for peer in present:
            if peer not in self._tuners:
                self._tuners[peer] = PeerTuner(peer, self._config, self._may_set, now)
        return samples

    def _take(self, cluster: str, samples: dict[MeasuredPeer, LinkSample], now: float, interval_s: float) -> None:
        with self._lock:
            link = self._links.get(cluster)
            if link is None:
                link = self._links[cluster] = _Link(LinkEstimator(self._described.get(cluster)))
            if samples:
                merged = merge(list(samples.values()))
                link.estimator.add(merged)
                if merged.busy_s > 0:
                    link.measured_s = now
            else:
                link.estimator.forget_peers(interval_s)
            estimate = link.estimator.estimate
        busy_peers = sum(sample.busy_s > 0 for sample in samples.values())
        for peer, sample in samples.items():
            self._tuners[peer].tune(sample, estimate, busy_peers)
        self._metrics.read(cluster, _values(estimate))
        used = {self._tuners[peer].congestion_control for peer in samples} - {None}
        self._metrics.use(cluster, frozenset(name for name in used if name is not None))

    def _may_set(self, name: str) -> bool:
        if name not in self._settable:
            self._settable[name] = may_set(name)
            if not self._settable[name]:
                self._metrics.refused_congestion_control.labels(name).inc()
                log.warning(
                    "congestion control %s would suit a link, but the kernel lacks it or keeps it for root; it keeps "
                    "the system's (sysctl net.ipv4.tcp_allowed_congestion_control allows more)",
                    name,
                )
        return self._settable[name]


def _report(cluster: str, estimate: LinkEstimate, age_s: float) -> pb.LinkReport:
    return pb.LinkReport(
        cluster=cluster,
        bytes_per_s=estimate.rate_bytes_s or 0.0,
        at_least=estimate.at_least,
        rtt_s=estimate.rtt_s or 0.0,
        min_rtt_s=estimate.min_rtt_s or 0.0,
        retransmitted=estimate.retransmitted,
        utilisation=estimate.utilisation,
        queued_s=estimate.queued_s,
        queued_bytes=estimate.queued_bytes,
        streams=estimate.streams,
        age_s=age_s,
    )


def _values(estimate: LinkEstimate) -> dict[str, float]:
    values = {
        "bytes_per_second": estimate.rate_bytes_s,
        "rtt_seconds": estimate.rtt_s,
        "min_rtt_seconds": estimate.min_rtt_s,
        "retransmitted_ratio": estimate.retransmitted,
        "queued_seconds": estimate.queued_s,
        "queued_bytes": estimate.queued_bytes,
        "in_flight_bytes": estimate.in_flight_bytes,
        "streams": estimate.streams,
        "utilisation_ratio": estimate.utilisation,
        "window_bytes": estimate.window_bytes,
    }
    return {key: value for key, value in values.items() if value is not None}

"""From peers' counters to reports, metrics and changes, in played time; and the thread once, in real time."""

import contextlib
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport import link_sampler
from prfaas.transport.link_reader import LinkReader
from prfaas.transport.link_sampler import INTERVAL_S, LinkSampler
from tests.eventually import eventually
from tests.transport.played_peer import PlayedPeer

RATE = 100_000_000
MIB = 1 << 20


class Rig:
    """A sampler over played peers."""

    def __init__(self, undo: ExitStack, **transport: object) -> None:
        self.undo = undo
        self.now_s = 50.0
        self.present: list[PlayedPeer] = []
        self.metrics = InstanceMetrics(CollectorRegistry())
        config = TransportSection.model_validate({"min_streams": 2, "max_streams": 8} | transport)
        self.sampler = LinkSampler(self, config, self.metrics, lambda: self.now_s)

    def peers(self) -> list[PlayedPeer]:
        return self.present

    def add(self, cluster: str = "east", *, proxied: bool = False, streams: int = 2) -> PlayedPeer:
        peer = PlayedPeer(self.undo, cluster, streams, proxied=proxied)
        self.present.append(peer)
        return peer

    def step(self) -> None:
        self.now_s += INTERVAL_S
        self.sampler.sample()

    def flow(self, peers: list[PlayedPeer], seconds: float) -> None:
        """All of them at the limit, at RATE together."""
        for _ in range(int(seconds / INTERVAL_S)):
            for peer in peers:
                peer.moved(
                    int(RATE * INTERVAL_S) // len(peers),
                    INTERVAL_S,
                    queued_bytes=40 * MIB,
                    in_flight_bytes=10 * MIB,
                    limited_s=INTERVAL_S,
                )
            self.step()

    def metric(self, name: str, /, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ExitStack() as undo:
        yield Rig(undo)


def test_no_peers_no_reports(rig: Rig) -> None:
    rig.step()
    assert rig.sampler.reports() == []
    assert rig.sampler.rate_bytes_s("east") is None


def test_what_flows_is_reported_and_counted(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    rig.flow([peer], 3)
    (report,) = rig.sampler.reports()
    assert report.cluster == "east"
    assert report.bytes_per_s == pytest.approx(RATE, rel=0.01)
    assert rig.sampler.rate_bytes_s("east") == report.bytes_per_s
    assert 0 < report.min_rtt_s <= report.rtt_s < 1
    assert (report.queued_bytes, report.streams, report.age_s) == (40 * MIB, 2, 0)
    assert report.queued_s == pytest.approx(50 * MIB / RATE, rel=0.01)
    assert rig.metric("prfaas_link_bytes_per_second", cluster="east") == report.bytes_per_s
    assert rig.metric("prfaas_link_queued_bytes", cluster="east") == 40 * MIB
    assert rig.metric("prfaas_link_streams", cluster="east") == 2


def test_what_was_measured_stays_while_nothing_is_sent_and_grows_old(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    rig.flow([peer], 3)
    peer.moved(0, 0)
    for _ in range(100):
        rig.step()
    (report,) = rig.sampler.reports()
    assert report.bytes_per_s == pytest.approx(RATE, rel=0.01)
    assert report.age_s == pytest.approx(100 * INTERVAL_S)
    assert (report.queued_bytes, report.queued_s) == (0, 0)
    rig.present.clear()
    rig.step()
    (report,) = rig.sampler.reports()
    assert report.bytes_per_s == pytest.approx(RATE, rel=0.01)
    assert report.streams == 0


def test_a_slow_link_recovers_while_nobody_is_connected(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    rig.flow([peer], 3)
    for _ in range(20):
        peer.moved(RATE // 1000, INTERVAL_S, queued_bytes=MIB, limited_s=INTERVAL_S)
        rig.step()
    (report,) = rig.sampler.reports()
    assert report.bytes_per_s < RATE / 50
    assert not report.at_least
    rig.present.clear()
    for _ in range(1000):
        rig.step()
    (report,) = rig.sampler.reports()
    assert report.bytes_per_s == pytest.approx(RATE, rel=0.01)
    assert report.at_least


def test_all_peers_of_a_cluster_are_one_link(rig: Rig) -> None:
    pair = [rig.add(), rig.add()]
    other = rig.add("south")
    rig.step()
    rig.flow([*pair, other], 3)
    rates = {report.cluster: report.bytes_per_s for report in rig.sampler.reports()}
    assert rates == {"east": pytest.approx(RATE * 2 / 3, rel=0.01), "south": pytest.approx(RATE / 3, rel=0.01)}


def test_a_peer_that_was_replaced_does_not_count_backwards(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    rig.flow([peer], 3)
    rig.present.clear()
    fresh = rig.add()
    rig.step()
    rig.flow([fresh], 1.5)
    assert rig.sampler.rate_bytes_s("east") == pytest.approx(RATE, rel=0.01)


def test_full_sockets_tell_that_it_is_the_link(rig: Rig) -> None:
    """Through those of the two connections that nobody reads, bytes stop."""
    peer = rig.add()
    reader = LinkReader(peer, 0.0)
    peer.moved(1000, 0.15, queued_bytes=MIB)
    reader.read(0.15)
    peer.moved(1000, 0.15, queued_bytes=MIB)
    sample = reader.read(0.30)
    assert (sample.saturated, sample.link_limited) == (True, False)
    sock = peer.state.sockets[0]
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(MIB))
    peer.moved(1000, 0.15, queued_bytes=MIB)
    assert reader.read(0.45).link_limited


def test_streams_are_tried_and_given_back(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    rig.flow([peer], 4)
    assert peer.streams_set == [4, 2], "the rate is the same with 4"


def test_a_receiver_that_takes_fewer_streams_is_not_asked_again(rig: Rig) -> None:
    peer = rig.add()
    peer.takes_streams = 2
    rig.step()
    rig.flow([peer], 60)
    assert peer.streams_set == [4]


def test_the_window_follows_the_path(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    rig.flow([peer], 1.5)
    # A loopback round trip: the floor, for two streams.
    assert peer.windows_set == [8 * MIB]
    far = rig.add(proxied=True, cluster="south")
    rig.step()
    rig.flow([far], 1.5)
    assert far.state.window_bytes == pytest.approx(2 * (RATE * 0.02 + 2 * MIB), rel=0.1)


def test_before_the_receiver_welcomed_us_there_is_no_window(rig: Rig) -> None:
    peer = rig.add()
    peer.state = replace(peer.state, credit_bytes=0, window_bytes=1 << 62)
    rig.flow([peer], 1.5)
    assert peer.windows_set == []
    peer.state = replace(peer.state, credit_bytes=64 * MIB)
    rig.step()
    assert peer.windows_set == [8 * MIB]


def test_the_round_trip_behind_a_proxy_is_that_of_the_greetings(rig: Rig) -> None:
    peer = rig.add(proxied=True)
    rig.step()
    rig.flow([peer], 1)
    (report,) = rig.sampler.reports()
    assert (report.rtt_s, report.min_rtt_s) == (0.02, 0.02)


def test_what_tcp_sends_counts_on_direct_connections_only(rig: Rig) -> None:
    direct, proxied = PlayedPeer(rig.undo), PlayedPeer(rig.undo, proxied=True)
    readers = [LinkReader(peer, 0.0) for peer in (direct, proxied)]
    for peer in (direct, proxied):
        peer.state.sockets[0].sendall(bytes(1000))
    assert [reader.read(0.15).tcp_sent_bytes for reader in readers] == [1000, 0]


def test_a_named_congestion_control_is_set_once() -> None:
    with ExitStack() as undo:
        rig = Rig(undo, congestion_control="reno")
        peer = rig.add()
        rig.flow([peer], 1)
        assert peer.congestion_set == ["reno"]


def test_a_congestion_control_that_is_refused_is_said_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_sampler, "may_set", lambda _: False)
    peers = [rig.add(), rig.add("south")]
    with caplog.at_level(logging.WARNING):
        rig.flow(peers, 2)
    assert [peer.congestion_set for peer in peers] == [[], []]
    assert len([r for r in caplog.records if "would suit a link" in r.message]) == 1
    assert rig.metric("prfaas_link_congestion_control_refused_total", name="cubic") == 1


def test_what_connections_really_use_is_shown(rig: Rig) -> None:
    peer = rig.add(proxied=True)
    for sock in peer.state.sockets:
        sock.setsockopt(6, 13, b"reno")
    rig.step()
    rig.step()
    assert rig.metric("prfaas_link_congestion_control", cluster="east", name="reno") == 1
    rig.present.clear()
    rig.step()
    assert rig.metric("prfaas_link_congestion_control", cluster="east", name="reno") is None


def test_connections_that_end_meanwhile_are_left_out(rig: Rig) -> None:
    peer = rig.add()
    rig.step()
    peer.state.sockets[0].close()
    rig.flow([peer], 1)
    (report,) = rig.sampler.reports()
    assert report.streams == 1
    for sock in peer.state.sockets:
        sock.close()
    rig.flow([peer], 1)
    (report,) = rig.sampler.reports()
    assert report.streams == 0


def test_the_thread_survives_a_peer_that_breaks(caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as undo:
        rig = Rig(undo)
        peer = rig.add()
        sampler = LinkSampler(rig, TransportSection(), rig.metrics, time.monotonic)
        snapshot, peer.snapshot = peer.snapshot, lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        sampler.start()
        undo.callback(sampler.close)
        eventually(lambda: bool(rig.metric("prfaas_link_sampler_failures_total")))
        eventually(lambda: any("looking at the links broke" in r.message for r in caplog.records))
        peer.snapshot = snapshot  # type: ignore[method-assign]
        eventually(lambda: rig.metric("prfaas_link_streams", cluster="east") == 2)


def test_closing_what_never_started(rig: Rig) -> None:
    rig.sampler.close()

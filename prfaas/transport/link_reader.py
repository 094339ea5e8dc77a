"""Turns a peer's counters, and those of its TCP connections, into samples. Judges nothing."""

import socket
from typing import Protocol

from prfaas.transport.link_sample import LinkSample
from prfaas.transport.snapshot import PeerSnapshot
from prfaas.transport.tcp_info import TcpInfo, tcp_info


class MeasuredPeer(Protocol):
    """What measuring and adapting need of a `Peer`."""

    @property
    def cluster(self) -> str: ...
    @property
    def address(self) -> str: ...
    def snapshot(self) -> PeerSnapshot: ...
    def set_streams(self, streams: int, /) -> None: ...
    def set_window(self, window_bytes: int, /) -> None: ...
    def set_congestion_control(self, name: str, /) -> None: ...


class LinkReader:
    """One peer's samples; each says what happened since the one before."""

    def __init__(self, peer: MeasuredPeer, now_s: float) -> None:
        self._peer = peer
        self._now_s = now_s
        self.snapshot = peer.snapshot()
        """As of the last sample."""
        self._infos = _look(self.snapshot.sockets)

    def read(self, now_s: float) -> LinkSample:
        snapshot = self._peer.snapshot()
        infos = _look(snapshot.sockets)
        last, last_infos = self.snapshot, self._infos
        interval_s = now_s - self._now_s
        # A proxy that is slower than its network throws segments away, which says nothing of the path behind it.
        sent, again = (0, 0) if snapshot.proxied else _tcp_bytes(infos, last_infos)
        hop_min_rtt_s = min((i.min_rtt_s for i in infos.values() if i.min_rtt_s is not None), default=None)
        self._now_s, self.snapshot, self._infos = now_s, snapshot, infos
        return LinkSample(
            interval_s=interval_s,
            acknowledged_bytes=snapshot.acknowledged_bytes - last.acknowledged_bytes,
            busy_s=min(interval_s, max(0.0, snapshot.busy_s - last.busy_s)),
            waiting=min(last.queued_bytes, snapshot.queued_bytes) > 0,
            pressed=snapshot.window_limited_s - last.window_limited_s >= interval_s / 2 or _full(infos),
            queued_bytes=snapshot.queued_bytes,
            in_flight_bytes=snapshot.in_flight_bytes,
            streams=len(infos),
            window_bytes=min(snapshot.window_bytes, snapshot.credit_bytes),
            tcp_sent_bytes=sent,
            tcp_retransmitted_bytes=again,
            # TCP sees the way to a proxy only; from end to end there is the time that the greetings took.
            rtt_s=snapshot.connect_rtt_s if snapshot.proxied else _present_rtt(infos, last_infos),
            min_rtt_s=snapshot.connect_rtt_s if snapshot.proxied else hop_min_rtt_s,
            hop_min_rtt_s=hop_min_rtt_s,
        )


_Infos = dict[socket.socket, TcpInfo]


def _look(sockets: tuple[socket.socket, ...]) -> _Infos:
    infos: _Infos = {}
    for sock in sockets:
        try:
            infos[sock] = tcp_info(sock)
        except OSError:
            # Its thread closed it in this moment.
            continue
    return infos


def _tcp_bytes(infos: _Infos, last: _Infos) -> tuple[int, int]:
    """Bytes sent, and of them those sent again; a connection that is new was not there before, and counts from 0."""
    sent = again = 0
    for sock, info in infos.items():
        before = last.get(sock)
        sent += (info.bytes_sent or 0) - ((before.bytes_sent or 0) if before else 0)
        again += (info.bytes_retransmitted or 0) - ((before.bytes_retransmitted or 0) if before else 0)
    return sent, again


def _full(infos: _Infos) -> bool:
    """Half of the connections hold bytes that TCP has not sent once."""
    return sum(bool(info.notsent_bytes) for info in infos.values()) * 2 >= max(1, len(infos))


def _present_rtt(infos: _Infos, last: _Infos) -> float | None:
    """Mean over the connections that sent something since the last sample; over all, if none did."""
    known = [(info.rtt_s, _sent(info) > _sent(last.get(sock))) for sock, info in infos.items() if info.rtt_s]
    chosen = [rtt for rtt, moved in known if moved] or [rtt for rtt, _ in known]
    return sum(chosen) / len(chosen) if chosen else None


def _sent(info: TcpInfo | None) -> int:
    return (info.bytes_sent or 0) if info else 0

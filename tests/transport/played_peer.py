"""A peer whose counters a test moves, on real TCP connections."""

import socket
from contextlib import ExitStack
from dataclasses import replace

from prfaas.transport.snapshot import PeerSnapshot


class PlayedPeer:
    """Notes what it is told to change."""

    def __init__(self, undo: ExitStack, cluster: str = "east", streams: int = 2, *, proxied: bool = False) -> None:
        self.cluster = cluster
        self.address = "10.0.0.1:9"
        self.streams_set: list[int] = []
        self.takes_streams = 64
        """Of those that it is asked to have."""
        self.windows_set: list[int] = []
        self.congestion_set: list[str] = []
        self.state = PeerSnapshot(
            sockets=tuple(_connection(undo) for _ in range(streams)),
            proxied=proxied,
            queued_bytes=0,
            in_flight_bytes=0,
            acknowledged_bytes=0,
            busy_s=0.0,
            window_limited_s=0.0,
            connect_rtt_s=0.02 if proxied else None,
            target_streams=streams,
            window_bytes=64 << 20,
            credit_bytes=64 << 20,
        )

    def snapshot(self) -> PeerSnapshot:
        return self.state

    def moved(
        self,
        acknowledged_bytes: int,
        busy_s: float,
        *,
        queued_bytes: int = 0,
        in_flight_bytes: int = 0,
        limited_s: float = 0.0,
    ) -> None:
        self.state = replace(
            self.state,
            acknowledged_bytes=self.state.acknowledged_bytes + acknowledged_bytes,
            busy_s=self.state.busy_s + busy_s,
            window_limited_s=self.state.window_limited_s + limited_s,
            queued_bytes=queued_bytes,
            in_flight_bytes=in_flight_bytes,
        )

    def set_streams(self, streams: int) -> None:
        self.streams_set.append(streams)
        self.state = replace(self.state, target_streams=min(streams, self.takes_streams))

    def set_window(self, window_bytes: int) -> None:
        self.windows_set.append(window_bytes)
        self.state = replace(self.state, window_bytes=window_bytes)

    def set_congestion_control(self, name: str) -> None:
        self.congestion_set.append(name)


def _connection(undo: ExitStack) -> socket.socket:
    server = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
    sock = undo.enter_context(socket.create_connection(server.getsockname()))
    receiver = undo.enter_context(server.accept()[0])
    # A round trip, so that the kernel has measured one.
    sock.sendall(b"x")
    receiver.recv(1)
    return sock

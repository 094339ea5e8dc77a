"""Measures a path by filling it with PROBE frames, which receivers throw away and acknowledge. Moves no KV."""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean

from prfaas.control.credentials import Credentials
from prfaas.core.clock import Clock
from prfaas.core.errors import PeerLostError, PrfaasError
from prfaas.transport.caller import Caller
from prfaas.transport.channel import Channel
from prfaas.transport.congestion import AUTO, choose, in_use, may_set
from prfaas.transport.connect import connect, keep_little_unsent
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.probe_stream import ProbeStream
from prfaas.transport.secure import secure
from prfaas.transport.send_greeting import greet
from prfaas.transport.tcp_info import TcpInfo, tcp_info
from prfaas.wire.header import VERSION
from prfaas.wire.messages import Hello, Welcome

TICK_S = 0.1
WARM_UP_SHARE = 0.25
"""Of a measurement, before it counts: connections find their speed."""
FIRST_FRAME_BYTES = 256 << 10
LEAST_FRAME_BYTES = 64 << 10
MOST_FRAME_BYTES = 1 << 20
FIRST_WINDOW_BYTES = 16 << 20
FRAME_S = 0.05
"""A frame takes about so long on its connection: longer ones would come too rarely to measure by."""
WINDOW_S = 0.1
GROWTH = 4
"""More connections may carry so many times what fewer did; windows leave room for that."""

Progress = Callable[[float, int], None]
"""Told several times a second: seconds since the start, bytes acknowledged so far."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Whose data port, and who asks."""

    address: str
    proxy: str | None
    caller: Caller
    credentials: Credentials | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Reached:
    """What the first connection told."""

    welcome: Welcome
    greeting_rtt_s: float
    """HELLO to WELCOME, the shortest of several."""
    min_rtt_s: float | None
    """Of TCP; behind a proxy it ends there."""


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """One measurement."""

    streams: int
    bytes_per_s: float
    rtt_s: float | None
    """Of TCP, under load; None behind a proxy, where it ends. So does the next."""
    retransmitted: float | None
    """Share of the bytes, 0 to 1."""
    congestion_control: str


class Probe:
    """Measures one path again and again; frames and windows grow with what it found."""

    def __init__(self, target: ProbeTarget, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._payload = memoryview(os.urandom(MOST_FRAME_BYTES))
        self._reached: Reached | None = None
        self._best_bytes_s = 0.0

    def reach(self, attempts: int = 3) -> Reached:
        """Connects, greets, and hangs up. Raises PeerLostError, PeerRefusedError or what the receiver refuses with."""
        found = []
        for _ in range(attempts):
            channel, _, welcome, rtt_s = self._greeted(secrets.token_bytes(16), None)
            with ExitStack() as undo:
                undo.callback(channel.close)
                found.append((rtt_s, tcp_info(channel.sock).min_rtt_s, welcome))
        self._reached = Reached(
            welcome=found[-1][2],
            greeting_rtt_s=min(rtt_s for rtt_s, _, _ in found),
            min_rtt_s=min((rtt_s for _, rtt_s, _ in found if rtt_s is not None), default=None),
        )
        return self._reached

    def congestion_control(self) -> str | None:
        """What instances would choose for this path; None where they would leave the system's."""
        assert self._reached is not None, "reach comes first"
        name = choose(AUTO, self._reached.min_rtt_s, None)
        return name if name is not None and may_set(name) else None

    def measure(self, streams: int, seconds: float, congestion_control: str | None, progress: Progress) -> ProbeRun:
        """Fills the path with so many connections. Raises as `reach`."""
        reached = self._reached
        assert reached is not None, "reach comes first"
        assert 1 <= streams <= reached.welcome.max_streams, f"{streams} of {reached.welcome.max_streams} streams"
        frame_bytes, window_bytes = self._sizes(streams, reached)
        payload = self._payload[:frame_bytes]
        session = secrets.token_bytes(16)
        running: list[ProbeStream] = []
        try:
            for _ in range(streams):
                channel, reader, _, _ = self._greeted(session, congestion_control)
                running.append(ProbeStream(channel, reader, payload, window_bytes, self._clock))
            for stream in running:
                stream.start()
            run = self._watch(running, seconds, progress)
        finally:
            _end(running)
        _raise_first(running)
        self._best_bytes_s = max(self._best_bytes_s, run.bytes_per_s)
        return run

    def _watch(self, running: Sequence[ProbeStream], seconds: float, progress: Progress) -> ProbeRun:
        pause = threading.Event()
        begun_s = self._clock()
        first: tuple[float, int, _Totals] | None = None
        rtts: list[float] = []
        while True:
            pause.wait(TICK_S)
            now_s, acknowledged = self._clock(), sum(stream.acknowledged_bytes for stream in running)
            progress(now_s - begun_s, acknowledged)
            if any(stream.error for stream in running) or now_s - begun_s >= seconds:
                break
            if now_s - begun_s >= WARM_UP_SHARE * seconds:
                totals = _totals(running)
                first = first or (now_s, acknowledged, totals)
                rtts += totals.rtts_s
        _raise_first(running)
        since_s, before, totals_before = first or (begun_s, 0, _Totals(0, 0, ()))
        totals = _totals(running)
        sent = totals.sent_bytes - totals_before.sent_bytes
        again = totals.retransmitted_bytes - totals_before.retransmitted_bytes
        direct = self._target.proxy is None
        return ProbeRun(
            streams=len(running),
            bytes_per_s=(acknowledged - before) / max(now_s - since_s, TICK_S),
            rtt_s=fmean(rtts) if rtts and direct else None,
            retransmitted=min(1.0, again / sent) if sent and direct else None,
            congestion_control=in_use(running[0].channel.sock),
        )

    def _sizes(self, streams: int, reached: Reached) -> tuple[int, int]:
        """Bytes of a frame, and of a connection's window: its part of the credit, or less where that is much."""
        credit_bytes = reached.welcome.credit_bytes // streams
        most_frame_bytes = min(MOST_FRAME_BYTES, reached.welcome.max_frame_bytes, credit_bytes)
        if not self._best_bytes_s:
            return min(FIRST_FRAME_BYTES, most_frame_bytes), min(FIRST_WINDOW_BYTES, credit_bytes)
        each_bytes_s = self._best_bytes_s / streams
        frame_bytes = min(most_frame_bytes, max(LEAST_FRAME_BYTES, int(FRAME_S * each_bytes_s)))
        window_s = WINDOW_S + 2 * reached.greeting_rtt_s
        window_bytes = max(2 * frame_bytes, int(GROWTH * window_s * each_bytes_s))
        return frame_bytes, min(credit_bytes, window_bytes)

    def _greeted(self, session: bytes, congestion_control: str | None) -> tuple[Channel, FrameReader, Welcome, float]:
        target = self._target

        def prepare(sock: socket.socket) -> None:
            keep_little_unsent(sock, FIRST_FRAME_BYTES)
            if congestion_control is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion_control.encode())

        sock = connect(target.address, target.proxy, target.timeout_s, prepare)
        channel = secure(sock, target.credentials, server_side=False, timeout_s=target.timeout_s, peer=target.address)
        hello = Hello((VERSION,), target.caller.instance_id, target.caller.cluster, session)
        reader = FrameReader()
        begun_s = self._clock()
        try:
            welcome = greet(channel, reader, hello, target.timeout_s, self._clock)
        except PeerLostError as error:
            channel.close()
            raise PeerLostError(f"{target.address} does not answer: {error}{self._tls_hint()}") from error
        except OSError as error:
            channel.close()
            raise PeerLostError(f"{target.address} hung up: {error}{self._tls_hint()}") from error
        except PrfaasError:
            channel.close()
            raise
        return channel, reader, welcome, self._clock() - begun_s

    def _tls_hint(self) -> str:
        if self._target.credentials is not None:
            return ""
        return "; if its fleet uses TLS, probe as an instance of it: --config FILE --name INSTANCE"


@dataclass(frozen=True, slots=True)
class _Totals:
    """Of all connections of a measurement."""

    sent_bytes: int
    retransmitted_bytes: int
    rtts_s: tuple[float, ...]


def _totals(running: Sequence[ProbeStream]) -> _Totals:
    infos: list[TcpInfo] = [tcp_info(stream.channel.sock) for stream in running]
    return _Totals(
        sum(info.bytes_sent or 0 for info in infos),
        sum(info.bytes_retransmitted or 0 for info in infos),
        tuple(info.rtt_s for info in infos if info.rtt_s is not None),
    )


def _end(running: Sequence[ProbeStream]) -> None:
    for stream in running:
        stream.end()
    for stream in running:
        stream.join()


def _raise_first(running: Sequence[ProbeStream]) -> None:
    for stream in running:
        if stream.error is not None:
            raise stream.error

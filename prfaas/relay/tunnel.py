"""One proxied connection: two sockets, a flow each way, and what becomes of one when the other ends.

Knows no HTTP and no other tunnel.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from prfaas.relay.flow import WRITE_HIGH_BYTES, Flow
from prfaas.relay.shaping import MAX_CHUNK_BYTES, OneWay

logger = logging.getLogger(__name__)

# Small, or the kernel's buffer would hide seconds of queue in front of the link, where the sender cannot see them.
RECEIVE_BUFFER_BYTES = 256 * 1024

_WATCH_S = 0.5
LAST_BYTES_S = 10.0
"""What a peer has to read the end of a connection that both sides have ended."""


def tune(transport: asyncio.Transport) -> None:
    """Socket options of either side: no Nagle, a bounded receive buffer, and CUBIC (BBR halves loopback)."""
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    with suppress(OSError, AttributeError):  # not on every kernel, and only a matter of speed
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=0)


def abort_with_reset(transport: asyncio.Transport) -> None:
    """Closes at once and sends RST instead of FIN (SO_LINGER of zero seconds)."""
    if not transport.is_closing() or transport.get_write_buffer_size():
        with suppress(OSError):  # the peer's own reset may have been first
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class End(asyncio.BufferedProtocol):
    """One side of a tunnel: what it sends goes into `outward`, what it is sent comes out of `inward`."""

    def __init__(self, outward: Flow, inward: Flow, on_lost: Callable[[Exception | None], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self._outward = outward
        self._inward = inward
        self._on_lost = on_lost
        self._buffer = memoryview(bytearray(MAX_CHUNK_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of the target: nothing is read until the tunnel starts, half a round trip from now."""
        self.transport = cast("asyncio.Transport", transport)
        tune(self.transport)
        self._hold()
        # uvloop begins to read only after this call, and forgets that it was told not to.
        asyncio.get_running_loop().call_soon(self._hold)

    def _hold(self) -> None:
        if self.transport is not None and not self._outward.attached:
            self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the link decides, not the loop
        return self._buffer[: self._outward.path.chunk_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        self._outward.feed(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        self._outward.feed(b"")
        return True  # half-closed: the other direction goes on

    def pause_writing(self) -> None:
        self._inward.sink_full()

    def resume_writing(self) -> None:
        self._inward.sink_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._on_lost(exc)


class Tunnel:
    """Client and target joined by the link. Ends when both directions have ended, or with a reset of both sides."""

    def __init__(self, forward: OneWay, backward: OneWay, on_reset: Callable[[], None]) -> None:
        self._flows = (Flow(forward, self._flow_ended), Flow(backward, self._flow_ended))
        self.client = End(self._flows[0], self._flows[1], self._lost)
        self.target = End(self._flows[1], self._flows[0], self._lost)
        self._on_reset = on_reset
        self._live = False
        self._broken = False
        """A side was lost while the link was stalled, and the other must not learn it before bytes flow again."""
        self._reset_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self.opened_s = 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when both sockets are closed."""

    @property
    def held_bytes(self) -> int:
        return sum(flow.held_bytes for flow in self._flows)

    def start(self, client: asyncio.Transport, early: bytes) -> None:
        """Joins the dialled target to `client`, whose reading is paused; `early` came right behind its request."""
        assert self.target.transport is not None
        self._live = True
        self.opened_s = asyncio.get_running_loop().time()
        self.client.transport = client
        self._flows[0].attach(client, self.target.transport)
        self._flows[1].attach(self.target.transport, client)
        client.set_protocol(self.client)
        client.resume_reading()
        self.target.transport.resume_reading()
        if early:
            self._flows[0].feed(early)
        self._watch()

    def reset_at(self, when_s: float | None) -> None:
        """Arms the reset for a time of the loop's clock, in place of the last one; None disarms."""
        if self._reset_timer is not None:
            self._reset_timer.cancel()
        loop = asyncio.get_running_loop()
        self._reset_timer = loop.call_at(when_s, self.reset) if self._live and when_s is not None else None

    def resume(self) -> None:
        """The profile has changed: what a stall held back goes on, if there is none now."""
        if self._stalled:
            return
        if self._broken:
            self.reset()
        elif self._live:
            for flow in self._flows:
                flow.resume()

    def reset(self) -> None:
        """Resets both sides at once and drops what is on the way; harmless on a tunnel that is over."""
        if self._live:
            self._leave()
            self._on_reset()
        for flow in self._flows:
            flow.stop()
        for end in (self.client, self.target):
            if end.transport is not None:
                abort_with_reset(end.transport)

    @property
    def _stalled(self) -> bool:
        return self._flows[0].path.stalled

    def _leave(self) -> None:
        self._live = False
        for timer in (self._reset_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()

    def _watch(self) -> None:
        """Finds resets of sockets that the loop does not poll: half-closed, or paused behind a sink that is stuck."""
        sockets = [end.transport.get_extra_info("socket") for end in (self.client, self.target) if end.transport]
        if not self._stalled and any(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for sock in sockets):
            self.reset()
        else:
            self._watch_timer = asyncio.get_running_loop().call_later(_WATCH_S, self._watch)

    def _flow_ended(self) -> None:
        if all(flow.ended for flow in self._flows):
            self._leave()
            for end in (self.client, self.target):
                if end.transport is not None:
                    end.transport.close()
            # A peer that never reads its last bytes would otherwise keep the tunnel for ever.
            timer = asyncio.get_running_loop().call_later(LAST_BYTES_S, self.reset)
            self.closed.add_done_callback(lambda _: timer.cancel())

    def _lost(self, exc: Exception | None) -> None:
        if exc is not None:
            logger.debug("a side of a tunnel was lost: %s", exc)
        if self._live and self._stalled:
            self._broken = True
            for flow in self._flows:
                flow.stop()
        elif self._live:
            self.reset()
        if self.client.transport is None and self.target.transport is None and not self.closed.done():
            self._leave()
            self.closed.set_result(None)

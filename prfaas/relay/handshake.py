"""The first request of a client connection: CONNECT becomes a tunnel, anything else is answered and closed.

Knows nothing of shaping beyond the delay of the emulated TCP handshake.
"""

import asyncio
import ipaddress
import logging
import socket
from typing import cast

from prfaas.core.errors import ConfigError
from prfaas.relay import control
from prfaas.relay.flow import half_close
from prfaas.relay.link import Link
from prfaas.relay.request import RefusedError, RequestReader, parse_authority
from prfaas.relay.tunnel import Tunnel, abort_with_reset, tune

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
_WATCH_S = 0.5


def is_loopback(peer: object) -> bool:
    """Whether a socket's peer name is of this machine's loopback."""
    if not isinstance(peer, tuple):
        return False
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class Handshake(asyncio.Protocol):
    """A client connection until it is a tunnel or is answered. In `open_handshakes` from accept to that moment."""

    def __init__(self, link: Link, allowed_hosts: frozenset[str], open_handshakes: "set[Handshake]") -> None:
        self._link = link
        self._allowed_hosts = allowed_hosts
        self._open_handshakes = open_handshakes
        self._reader = RequestReader()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._answered = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tune(self._transport)
        self._open_handshakes.add(self)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self.abort)
        if self._link.closed:  # accepted just before the listening socket was closed
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._answered or self._dialling is not None:
            return
        try:
            if self._reader.receive(data):
                self._dispatch()
        except RefusedError as refused:
            self._answer(refused.status, f"{refused}\n".encode())

    def eof_received(self) -> None:
        """Before the request is whole, or after the answer: nothing more to do, and the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            logger.debug("client lost before its tunnel was up: %s", exc)
        if self._dialling is None:
            self._leave()
        else:
            self._dialling.add_done_callback(lambda _: self._leave())
            self._dialling.cancel()

    def abort(self) -> None:
        """Gives the client up, whatever it is waiting for."""
        abort_with_reset(self._transport)

    def _leave(self) -> None:
        self._disarm()
        self._open_handshakes.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dispatch(self) -> None:
        request = self._reader.request
        assert request is not None
        method, target = request.method.decode(), request.target.decode()
        if method == "CONNECT":
            self._connect(target)
        elif target != "/link":
            raise RefusedError(404, "this relay knows CONNECT host:port, GET /link and PUT /link")
        elif not is_loopback(self._transport.get_extra_info("peername")):
            raise RefusedError(403, "/link answers only clients on this machine")
        elif method in ("GET", "PUT"):
            self._control(method)
        else:
            raise RefusedError(405, "/link takes GET and PUT")

    def _control(self, method: str) -> None:
        try:
            if method == "PUT":
                control.change(self._link, self._reader.body)
        except ConfigError as error:
            raise RefusedError(400, str(error)) from error
        self._answer(200, control.state_json(self._link), "application/json")

    def _connect(self, target: str) -> None:
        host, port = parse_authority(target)
        if self._reader.body:
            raise RefusedError(400, "CONNECT takes no body")
        if host not in self._allowed_hosts:
            raise RefusedError(403, f"{host} is not a target that this relay may reach")
        if not self._link.up:
            raise RefusedError(503, "the link is down")
        self._transport.pause_reading()
        self._disarm()
        self._dialling = asyncio.get_running_loop().create_task(self._open_tunnel(host, port))

    async def _open_tunnel(self, host: str, port: int) -> None:
        tunnel = self._link.new_tunnel()
        started = False
        try:
            await self._dial(tunnel, host, port)
            self._start(tunnel)
            started = True
        except RefusedError as refused:
            self._answer(refused.status, f"{refused}\n".encode())
        except Exception:
            logger.exception("opening a tunnel to %s:%d failed", host, port)
            self.abort()
        finally:
            if not started and tunnel.target.transport is not None:
                tunnel.target.transport.abort()

    async def _dial(self, tunnel: Tunnel, host: str, port: int) -> None:
        """Connects to the target as late as a SYN would get there, and returns when its SYN-ACK would be back."""
        loop = asyncio.get_running_loop()
        await self._until_flowing()
        await asyncio.sleep(self._link.forward.latency_s())
        failure = ""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await loop.create_connection(lambda: tunnel.target, host, port)
        except TimeoutError:
            failure = "no answer in time"
        except OSError as error:
            failure = error.strerror or str(error)
        await self._until_flowing()
        await asyncio.sleep(self._link.backward.latency_s())
        if failure or tunnel.target.transport is None:
            raise RefusedError(502, f"cannot reach {host}:{port}: {failure or 'it closed the connection'}")
        if not self._link.up:
            raise RefusedError(503, "the link is down")

    async def _until_flowing(self) -> None:
        """A stalled link answers nobody. The client's reading is paused, so its reset must be looked for."""
        while not await self._link.flows_within(_WATCH_S):
            if self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.abort()

    def _start(self, tunnel: Tunnel) -> None:
        answer, early = self._reader.establish()
        self._transport.write(answer)
        self._link.start(tunnel, self._transport, early)
        self._leave()

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        """Answers and half-closes; the client's EOF, or the timer, closes. Closing with its bytes unread would reset
        the connection, and the client could lose the answer."""
        self._answered = True
        self._dialling = None
        self._transport.write(self._reader.answer(status, body, content_type))
        half_close(self._transport)
        self._transport.resume_reading()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self.abort)

"""Clients that misbehave, on real sockets, before a small app of three paths."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from prfaas.gateway.connection_limits import ConnectionLimits
from prfaas.gateway.http_connection import HttpConnection
from prfaas.telemetry.connection_metrics import ConnectionMetrics
from tests.gateway.running_router import eventually

FOREVER_S = 60.0
SOON_S = 0.05
GET = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"


@dataclass
class Site:
    """`/hello` answers at once and reads no body, `/echo` answers its body; others end when their client goes: `/flood`
    sends all it can until then, `/wait` nothing."""

    address: tuple[str, int]
    registry: CollectorRegistry
    running: set[str] = field(default_factory=set)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.running.add(path)
        try:
            if path == "/flood":
                await StreamingResponse(self._flood())(scope, receive, send)
            elif path == "/wait":
                while (await receive())["type"] != "http.disconnect":
                    pass
            else:
                text = await Request(scope, receive).body() if path == "/echo" else b"hello"
                await PlainTextResponse(text)(scope, receive, send)
        finally:
            self.running.discard(path)

    async def _flood(self) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    def cut(self, reason: str) -> float:
        return self.registry.get_sample_value("prfaas_router_connections_cut_total", {"reason": reason}) or 0.0

    @property
    def open(self) -> float:
        return self.registry.get_sample_value("prfaas_router_connections") or 0.0


Client = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[tuple[Site, Client]]:
    """The site, and what connects to it; at the end nothing of any client is left."""
    registry = CollectorRegistry()
    listener = socket.create_server(("127.0.0.1", 0))
    # Small buffers, so that a client that does not read is noticed after little.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    listener.setblocking(False)
    site = Site(listener.getsockname(), registry)
    bounds = ConnectionLimits(
        **{"max_connections": 1000, "head_timeout_s": FOREVER_S, "idle_timeout_s": FOREVER_S} | limits
    )
    http = HttpConnection.limited(bounds, ConnectionMetrics(registry))
    config = uvicorn.Config(
        site.app, http=http, interface="asgi3", lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listener]))
    await eventually(lambda: server.started)
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*site.address)
        writers.append(writer)
        return reader, writer

    try:
        yield site, connect
    finally:
        for writer in writers:
            writer.transport.abort()
        await eventually(lambda: site.open == 0 and not site.running)
        server.should_exit = True
        await task


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one whole answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return int(head.split()[1]), await reader.readexactly(length)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Waits for the other side's end, whatever still comes before it."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.parametrize("first", [b"GET /hel", b"GET /hello HTTP/1.1\r\nhost: x\r\nx-a: 1"])
async def test_a_head_that_drips(first: bytes) -> None:
    async with serving(head_timeout_s=SOON_S) as (site, connect):
        reader, writer = await connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200, "it is not the first request that is judged"
        writer.write(first)

        async def drip() -> None:
            while not reader.at_eof():
                writer.write(b"l")
                await asyncio.sleep(SOON_S / 5)

        dripping = asyncio.create_task(drip())
        status, body = await answer(reader)
        assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
        assert await ended(reader)
        dripping.cancel()
        assert site.cut("head_slow") == 1


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET])
async def test_an_idle_connection(sent: bytes) -> None:
    """Empty lines before a request are allowed; they are no request."""
    async with serving(idle_timeout_s=SOON_S) as (site, connect):
        reader, writer = await connect()
        writer.write(sent)
        assert await ended(reader)
        assert site.cut("idle") == 1


async def test_a_connection_with_a_request_is_not_idle() -> None:
    async with serving(idle_timeout_s=SOON_S) as (site, connect):
        reader, writer = await connect()
        writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
        for byte in (b"a", b"b", b"c", b"d"):
            await asyncio.sleep(SOON_S)
            writer.write(byte)
        assert await answer(reader) == (200, b"abcd")
        assert await ended(reader)
        assert site.cut("idle") == 1


async def test_the_rest_of_a_body_that_nobody_reads() -> None:
    """A late rest is thrown away and the next request answered; one that never ends is not waited for."""
    async with serving(rest_s=SOON_S) as (site, connect):
        reader, writer = await connect()
        for _ in range(2):
            writer.write(b"POST /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
            assert await answer(reader) == (200, b"hello")
            writer.write(b"cd")
        await asyncio.sleep(2 * SOON_S)
        writer.write(GET)
        assert await answer(reader) == (200, b"hello"), "with its rest a body is over"
        writer.write(b"POST /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        assert await answer(reader) == (200, b"hello")
        assert await ended(reader)
        assert site.cut("body_unread") == 1


async def test_too_many_connections() -> None:
    """Those beyond the limit are told so; those within it work on, and a place that is given up can be taken."""
    async with serving(max_connections=200, farewell_s=FOREVER_S) as (site, connect):
        clients = [await connect() for _ in range(300)]
        for reader, _ in clients[200:]:
            status, body = await answer(reader)
            assert (status, json.loads(body)["error"]["type"]) == (503, "service_unavailable_error")
            assert await ended(reader)
        assert site.registry.get_sample_value("prfaas_router_connections_refused_total") == 100
        for reader, writer in clients[:200]:
            writer.write(GET)
            assert (await answer(reader))[0] == 200
        clients[0][1].close()
        await eventually(lambda: site.open == 299)  # those refused may take their time, and take nobody's place
        reader, writer = await connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200


async def test_one_too_many_that_sends_at_once_reads_why() -> None:
    async with serving(max_connections=0) as (site, connect):
        reader, writer = await connect()
        writer.write(GET * 1000)
        assert (await answer(reader))[0] == 503
        assert await ended(reader)
        assert not site.running


async def test_one_too_many_that_stays_is_cut() -> None:
    async with serving(max_connections=0, farewell_s=SOON_S) as (site, connect):
        await connect()
        await eventually(lambda: site.open == 1)
        await eventually(lambda: site.open == 0)


async def test_a_client_that_reads_nothing_is_cut_and_its_request_ends() -> None:
    async with serving(stalled_s=SOON_S) as (site, connect):
        _, writer = await connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: site.cut("stalled") == 1)
        await eventually(lambda: site.open == 0 and not site.running)


async def test_a_client_that_reads_slowly_is_served() -> None:
    async with serving(stalled_s=SOON_S, min_progress_bytes=1) as (site, connect):
        reader, writer = await connect()
        writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        for _ in range(8):
            await reader.readexactly(400_000)
            await asyncio.sleep(SOON_S / 3)
        assert site.cut("stalled") == 0
        assert site.running == {"/flood"}


async def test_a_stalled_client_holds_up_nobody_else_and_little_memory() -> None:
    """The app is stopped by what is unsent, so it does not write on."""
    written = 0
    async with serving() as (site, connect):
        flood = site._flood

        async def counted() -> AsyncIterator[bytes]:
            nonlocal written
            async for part in flood():
                written += len(part)
                yield part

        site._flood = counted  # type: ignore[method-assign]
        _, stalled = await connect()
        stalled.transport.pause_reading()  # type: ignore[attr-defined]
        stalled.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: written > 0)
        for _ in range(20):
            reader, writer = await connect()
            writer.write(GET)
            assert (await answer(reader))[0] == 200
        assert written < 10 << 20


@pytest.mark.parametrize("large", [b"x-a: " + b"a" * 70_000, b"".join(b"x-%d: a\r\n" % i for i in range(9000))])
@pytest.mark.parametrize("complete", [True, False])
async def test_a_head_that_is_too_large(large: bytes, complete: bool) -> None:
    async with serving() as (site, connect):
        reader, writer = await connect()
        writer.write(b"GET /hello HTTP/1.1\r\n" + large + (b"\r\n\r\n" if complete else b""))
        if not complete:
            await asyncio.sleep(SOON_S)
            writer.write(b"x-b: " + b"b" * 70_000)
        status, body = await answer(reader)
        assert (status, json.loads(body)["error"]["code"]) == (431, "head_too_large")
        assert await ended(reader)
        assert site.cut("head_large") == 1


async def test_a_body_does_not_count_as_head() -> None:
    async with serving() as (_, connect):
        reader, writer = await connect()
        body = b"b" * 200_000
        writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + body + GET[:10])
        assert await answer(reader) == (200, body)
        writer.write(GET[10:])
        assert (await answer(reader))[0] == 200


async def test_what_is_not_http() -> None:
    async with serving() as (site, connect):
        for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n"):
            reader, writer = await connect()
            writer.write(nonsense)
            status, body = await answer(reader)
            assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")
            assert await ended(reader)
        assert site.cut("malformed") == 3


async def test_requests_in_a_row_are_answered_in_order() -> None:
    async with serving() as (_, connect):
        reader, writer = await connect()
        posts = [b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n%02d" % i for i in range(15)]
        writer.write(b"".join(posts))
        assert [(await answer(reader))[1] for _ in posts] == [b"%02d" % i for i in range(15)]


async def test_too_many_requests_ahead_of_their_answers() -> None:
    async with serving() as (site, connect):
        reader, writer = await connect()
        writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n" + GET * 1000)
        assert await ended(reader)
        assert site.cut("pipelined") == 1


@pytest.mark.parametrize("path", ["/flood", "/wait"])
@pytest.mark.parametrize("ahead", [b"", GET])
@pytest.mark.parametrize("leave", ["half", "whole"])
async def test_a_client_that_leaves_ends_its_request(path: str, ahead: bytes, leave: str) -> None:
    """A half-closed connection is taken for a client that left; also one that has sent its next request."""
    async with serving() as (site, connect):
        _, writer = await connect()
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() + ahead)
        await eventually(lambda: site.running == {path})
        if leave == "half":
            writer.write_eof()
        else:
            writer.close()
        await eventually(lambda: not site.running)


async def test_half_a_body_then_nothing() -> None:
    async with serving() as (site, connect):
        _, writer = await connect()
        writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        await eventually(lambda: "/echo" in site.running)
        writer.write_eof()
        await eventually(lambda: not site.running and site.open == 0)

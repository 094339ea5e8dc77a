"""What the relay's socket tests share: a relay, targets, and clients that speak just enough HTTP."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from prfaas.relay.server import LOOPBACK_HOSTS, RelayServer, serve_relay
from prfaas.relay.shaping import LinkProfile

FAST = LinkProfile(gbit_s=100, rtt_ms=0)
PATIENCE_S = 20.0

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Stream(NamedTuple):
    """A client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Answer(NamedTuple):
    status: int
    body: bytes


@asynccontextmanager
async def running_relay(
    profile: LinkProfile = FAST, allowed_hosts: frozenset[str] = LOOPBACK_HOSTS
) -> AsyncIterator[RelayServer]:
    server = await serve_relay("127.0.0.1", 0, profile, allowed_hosts=allowed_hosts)
    try:
        yield server
    finally:
        await server.close()
        assert server.stats().connections == 0
        assert server.stats().queue_bytes == 0
        assert server._link.forward.bulk_flows == server._link.backward.bulk_flows == 0


@asynccontextmanager
async def running_target(handler: Handler) -> AsyncIterator[int]:
    """A TCP server on a free port, which it yields; connections end with the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):  # the block's end cancels it
            try:
                await handler(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the connection and nothing from it."""
    del reader
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
    await asyncio.Event().wait()


def send_rst(writer: asyncio.StreamWriter) -> None:
    """Dies as a killed process with unread bytes does."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def dial(server: RelayServer) -> Stream:
    return Stream(*await asyncio.open_connection("127.0.0.1", server.port))


async def open_tunnel(server: RelayServer, port: int, early: bytes = b"") -> Stream:
    """A connection through the relay; `early` goes right behind the request's header."""
    stream = await dial(server)
    stream.writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() + early)
    head = await stream.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 Connection established\r\n"), head
    return stream


async def ask(server: RelayServer, request: bytes) -> Answer:
    """Sends raw bytes, reads the answer until the relay ends the connection."""
    stream = await dial(server)
    try:
        stream.writer.write(request)
        head, _, body = (await asyncio.wait_for(stream.reader.read(), PATIENCE_S)).partition(b"\r\n\r\n")
        return Answer(int(head.split()[1]), body)
    finally:
        await stream.close()


async def link(server: RelayServer, method: str = "GET", body: bytes = b"") -> Answer:
    head = f"{method} /link HTTP/1.1\r\nHost: relay\r\nContent-Length: {len(body)}\r\n\r\n"
    return await ask(server, head.encode() + body)


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after a time that no healthy run needs."""
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition never held")


async def assert_reset(stream: Stream) -> None:
    """The relay ends this connection with RST, not with FIN."""
    try:
        while await asyncio.wait_for(stream.reader.read(1 << 16), PATIENCE_S):
            pass
    except ConnectionResetError:
        return
    finally:
        await stream.close()
    raise AssertionError("the connection ended in order")

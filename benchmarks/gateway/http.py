"""A client that costs little beside what it measures: one kept connection, whole answers or counted chunks."""

import asyncio
import time
from typing import Self, cast
from urllib.parse import urlsplit

import httptools

EVENT = b"data: "


class AnswerError(Exception):
    """An answer other than 200, or a connection that ended."""


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._ended: asyncio.Future[None] | None = None
        self.first_s: float | None = None
        """When the first byte of a body came, by `time.perf_counter`."""

    @classmethod
    async def to(cls, url: str) -> Self:
        """Connects to the host and port of `url`."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    async def ask(self, request: bytes) -> bytes:
        """The whole body. Raises AnswerError."""
        assert self._transport
        if self._transport.is_closing():
            raise AnswerError("the connection had ended before")
        self._body.clear()
        self.first_s = None
        self._ended = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._ended
        if (status := self._parser.get_status_code()) != 200:
            raise AnswerError(f"{status}: {self._body[:500].decode('utf-8', 'replace')}")
        return bytes(self._body)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended and not self._ended.done():
            self._ended.set_exception(AnswerError(f"the connection ended: {exc}"))

    def on_body(self, body: bytes) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter()
        self._body += body

    def on_message_complete(self) -> None:
        if self._ended and not self._ended.done():
            self._ended.set_result(None)


def post(url: str, body: bytes) -> bytes:
    """The bytes of a request."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def chunks(body: bytes) -> int:
    """Events with a part of the answer, in the body of a stream."""
    return body.count(EVENT) - body.count(b"data: [DONE]")

"""`python -m benchmarks.gateway.backend`: answers chats over HTTP at once, so that what stands before it is measured.

It speaks as much of OpenAI's API as routers ask an engine for; of a body it reads `stream` and `max_tokens` alone.
"""

import asyncio
import re
from typing import Annotated, cast

import httptools
import typer
import uvloop

from benchmarks.gateway.answers import AT_ONCE_TOKENS

_STREAM = re.compile(rb'"stream": ?true')
_MAX_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
_HEAD = b'{"id":"chatcmpl-0123456789abcdef01234567","created":1700000000,"model":"bench",'
_USAGE = b'"usage":{"prompt_tokens":256,"completion_tokens":8,"total_tokens":264}}'
_ANSWER = (
    _HEAD + b'"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"'
    b'The router sends what it cannot prefill"},"finish_reason":"length","logprobs":null}],' + _USAGE
)
_CHUNK = (
    b"data: " + _HEAD + b'"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" router"},'
    b'"finish_reason":null,"logprobs":null}]}\n\n'
)
_PART = b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_FACTS = {
    b"/health": b"{}",
    b"/health_generate": b"{}",
    b"/v1/models": b'{"object":"list","data":[{"id":"bench","object":"model","owned_by":"bench"}]}',
    b"/get_model_info": b'{"model_path":"bench","served_model_name":"bench","is_generation":true}',
    b"/model_info": b'{"model_path":"bench","served_model_name":"bench","is_generation":true}',
    b"/get_server_info": b'{"model_path":"bench","served_model_name":"bench","version":"0","dp_size":1}',
    b"/server_info": b'{"model_path":"bench","served_model_name":"bench","version":"0","dp_size":1}',
    b"/version": b'{"version":"0"}',
}


class _Serving(asyncio.Protocol):
    """One connection; `streaming` is all that have a stream to go on with."""

    def __init__(self, streaming: "set[_Serving]", *, spaced: bool) -> None:
        self._streaming = streaming
        self._spaced = spaced
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = bytearray()
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the caller's signature
        self._streaming.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.partition(b"?")[0]

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body = bytes(self._body)
        self._body.clear()
        if self._path != b"/v1/chat/completions":
            found = _FACTS.get(self._path)
            self._whole(b"404 Not Found" if found is None else b"200 OK", found or b"{}")
        elif _STREAM.search(body):
            self._stream(body)
        else:
            self._whole(b"200 OK", _ANSWER)

    def step(self) -> None:
        """The next event of a stream."""
        self._left -= 1
        if self._left:
            self._write(_PART)
        else:
            self._streaming.discard(self)
            self._write(_PART + _END)

    def _stream(self, body: bytes) -> None:
        asked = _MAX_TOKENS.search(body)
        self._left = int(asked[1]) if asked else 1
        self._write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if self._spaced and self._left > AT_ONCE_TOKENS:
            self._streaming.add(self)
            self.step()
        else:
            self._write(_PART * self._left + _END)

    def _whole(self, status: bytes, answer: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._write(head % (status, len(answer)) + answer)

    def _write(self, data: bytes) -> None:
        assert self._transport
        self._transport.write(data)


def main(
    port: Annotated[int, typer.Option()],
    spacing_ms: Annotated[float, typer.Option(min=0.0)] = 0.0,
) -> None:
    """Serves until it is killed; streams of more than a few tokens have one for each tick."""
    uvloop.run(_serve(port, spacing_ms / 1e3))


async def _serve(port: int, spacing_s: float) -> None:
    loop = asyncio.get_running_loop()
    streaming: set[_Serving] = set()
    server = await loop.create_server(lambda: _Serving(streaming, spaced=spacing_s > 0), "127.0.0.1", port)
    due_s = loop.time()
    async with server:
        while True:
            due_s = max(due_s + (spacing_s or 1.0), loop.time())
            await asyncio.sleep(due_s - loop.time())
            for connection in list(streaming):
                connection.step()


if __name__ == "__main__":
    typer.run(main)

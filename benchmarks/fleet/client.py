"""A client that costs little: prompts as token ids, one connection per request, the answer looked at when it has ended.

Knows HTTP and the form of our streams, nothing of fleets.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from prfaas.core.clock import Clock

DATA = b"data: "
PROMPT_POOL = 1 << 18


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request; times on the client's clock."""

    sent_s: float
    first_token_s: float
    """When the head of the answer came, which the router sends with the first token."""
    ended_s: float
    trace: dict[str, Any]
    """The router's account."""


class RefusedError(Exception):
    """The answer was no stream of tokens that ended well."""


class Prompts:
    """Bodies of requests. No two prompts begin alike."""

    def __init__(self, model: str, vocab_size: int, rng: Random) -> None:
        self._model = model
        self._vocab_size = vocab_size
        self._pool = [str(rng.randrange(vocab_size)) for _ in range(PROMPT_POOL)]
        self._made = 0

    def body(self, prompt_tokens: int, max_tokens: int) -> bytes:
        """Of a streamed completion."""
        self._made += 1
        number = (self._made % self._vocab_size, self._made // self._vocab_size)
        start = (self._made * 7919) % (PROMPT_POOL - prompt_tokens)
        ids = [*map(str, number), *self._pool[start : start + prompt_tokens]][:prompt_tokens]
        fields = msgspec.json.encode(
            {"model": self._model, "max_tokens": max_tokens, "stream": True, "ignore_eos": True, "temperature": 0}
        )
        return fields[:-1] + b',"prompt":[' + ",".join(ids).encode() + b"]}"


async def ask(host: str, port: int, body: bytes, clock: Clock) -> Answer:
    """Raises RefusedError, or OSError."""
    sent_s = clock()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.writelines((_head(host, len(body)), body))
        head = await reader.readuntil(b"\r\n\r\n")
        first_token_s = clock()
        rest = await reader.read(-1)
        ended_s = clock()
    except asyncio.IncompleteReadError as error:
        raise RefusedError("the connection ended before an answer came") from error
    finally:
        writer.close()
    if not head.startswith(b"HTTP/1.1 200"):
        raise RefusedError((head + rest).decode(errors="replace"))
    return Answer(sent_s, first_token_s, ended_s, _trace(rest))


def _head(host: str, length: int) -> bytes:
    lines: Sequence[str] = (
        "POST /v1/completions HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        f"content-length: {length}",
        "x-prfaas-trace: 1",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _trace(stream: bytes) -> dict[str, Any]:
    """Each event is sent in one piece, so that no chunk's size stands within it."""
    events = [event.partition(b"\n\n")[0] for event in stream.split(DATA)[1:]]
    if not events or events[-1] != b"[DONE]":
        raise RefusedError(f"the stream ended early, with {events[-1:]}")
    last = msgspec.json.decode(events[-2], type=dict[str, Any])
    if "prfaas" not in last:
        raise RefusedError(f"the answer's last event has no account: {events[-2].decode(errors='replace')}")
    trace: dict[str, Any] = last["prfaas"]
    return trace

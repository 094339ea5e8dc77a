"""Tells others what is cached here: a ZeroMQ publisher with numbered batches, and a socket that repeats them.

The sockets and messages are those of vLLM's KV events. Knows no cache; who holds what is asked of its owner.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import zmq
import zmq.asyncio

from prfaas.control.curve import CurveGate, CurveKeys
from prfaas.control.kv_events import (
    END_SEQ,
    SEQ_BYTES,
    SNAPSHOT_REQUEST,
    AllBlocksCleared,
    KvBatch,
    KvEvent,
    encode,
    frames,
)
from prfaas.core.clock import Clock

BUFFER_BATCHES = 10_000
BUFFER_BYTES = 32 << 20
"""Who missed more than is kept asks for everything."""
QUEUE_MESSAGES = 10_000
"""For each subscriber that reads too slowly; later ones are lost to it, and it asks for them again."""
QUEUED_ANSWERS = 2 * BUFFER_BATCHES
"""Messages for each asker that does not read; a snapshot of 300,000 events is one answer of so many."""
MAX_REQUEST_BYTES = 1024
"""Who sends more is disconnected."""
EVENTS_PER_MESSAGE = 16
"""Of a snapshot."""
DATA_PARALLEL_RANK = 0

log = logging.getLogger(__name__)


class KvPublisher:
    """Belongs to one event loop. Numbers begin at 0 with `AllBlocksCleared`: another life holds nothing yet."""

    def __init__(
        self,
        events: socket.socket,
        replay: socket.socket,
        unix_time: Clock,
        buffer_batches: int = BUFFER_BATCHES,
        topic: bytes = b"",
        keys: CurveKeys | None = None,
    ) -> None:
        """Takes both listening sockets over. With `keys` both are encrypted, for clients that `allow` names."""
        self._context = zmq.Context()
        self._gate = CurveGate(self._context) if keys else None
        # Not one of asyncio's: a publisher's socket never makes anybody wait.
        self._events = self._context.socket(zmq.PUB)
        _serve(self._events, events, QUEUE_MESSAGES, keys)
        # It never waits for one who does not read either.
        self._replay = zmq.asyncio.Socket(self._context, zmq.ROUTER)
        _serve(self._replay, replay, QUEUED_ANSWERS, keys)
        self._unix_time = unix_time
        self._topic = topic
        self._buffer: deque[tuple[int, bytes]] = deque()
        self._buffer_batches = buffer_batches
        self._buffered_bytes = 0
        self._next_seq = 0
        self._latest = b""
        self._answering: asyncio.Task[None] | None = None

    def start(self, held: Callable[[], Iterable[KvEvent]]) -> None:
        """`held` tells, as events, what all events published before the call came to; it may do so piece by piece."""
        if self._gate:
            self._gate.start()
        self.publish([AllBlocksCleared()])
        self._answering = asyncio.create_task(self._answer_all(held))

    def allow(self, key: str) -> None:
        """Lets the client with this public CURVE key in; anybody is where nothing is encrypted."""
        if self._gate:
            self._gate.allow(key)

    def publish(self, events: Sequence[KvEvent]) -> None:
        """Sends one batch to whoever listens, and waits for nobody."""
        payload = encode(KvBatch(self._unix_time(), tuple(events), DATA_PARALLEL_RANK))
        self._keep(payload)
        self._latest = payload
        # What a subscriber has no room for is dropped.
        self._events.send_multipart(frames(self._topic, self._next_seq, payload), zmq.NOBLOCK)
        self._next_seq += 1

    async def close(self) -> None:
        if self._answering:
            self._answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._answering
        self._events.close(linger=0)
        self._replay.close(linger=0)
        if self._gate:
            await self._gate.close()
        self._context.destroy(linger=0)

    def _keep(self, payload: bytes) -> None:
        self._buffer.append((self._next_seq, payload))
        self._buffered_bytes += len(payload)
        while len(self._buffer) > self._buffer_batches or self._buffered_bytes > BUFFER_BYTES:
            self._buffered_bytes -= len(self._buffer.popleft()[1])

    async def _answer_all(self, held: Callable[[], Iterable[KvEvent]]) -> None:
        complained = False
        while True:
            message = await self._replay.recv_multipart()
            if len(message) != 3 or len(message[2]) != SEQ_BYTES:
                # Whoever is at the wrong port may have a lot to say.
                level = logging.DEBUG if complained else logging.WARNING
                log.log(level, "a request for KV events of %d parts makes no sense", len(message))
                complained = True
                await asyncio.sleep(0)
                continue
            client, _, start = message
            repeated = self._snapshot(held()) if start == SNAPSHOT_REQUEST else self._since(start)
            for seq, payload in repeated:
                await self._replay.send_multipart((client, b"", *frames(self._topic, seq, payload)))
                await asyncio.sleep(0)  # such sends never wait, and the loop has other work
            await self._replay.send_multipart((client, b"", b"", END_SEQ, b""))

    def _since(self, start: bytes) -> list[tuple[int, bytes]]:
        first = int.from_bytes(start, "big")
        return [kept for kept in self._buffer if kept[0] >= first]

    def _snapshot(self, held: Iterable[KvEvent]) -> Iterator[tuple[int, bytes]]:
        """All under the number of the last batch published, after which live batches go on.

        That batch itself comes last. It changes nothing any more, but by its bytes this life of ours can be told from
        another one that has come to the same number.
        """
        seq, now_s, latest = self._next_seq - 1, self._unix_time(), self._latest
        events = chain([AllBlocksCleared()], held)
        while part := tuple(islice(events, EVENTS_PER_MESSAGE)):
            yield seq, encode(KvBatch(now_s, part, DATA_PARALLEL_RANK))
        yield seq, latest


def _serve(served: "zmq.Socket[Any]", listening: socket.socket, queue: int, keys: CurveKeys | None) -> None:
    """Gives `served` the listening socket."""
    if keys:
        keys.serve(served)
    served.sndhwm = queue
    served.maxmsgsize = MAX_REQUEST_BYTES
    served.ipv6 = listening.family == socket.AF_INET6
    host, port = listening.getsockname()[:2]
    served.setsockopt(zmq.USE_FD, listening.detach())
    served.bind(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")

"""Follows what one instance publishes about its cache, without a hole: what was lost is asked for again.

Knows vLLM's sockets and messages, and not what the events mean to whoever reads them.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import zmq
import zmq.asyncio

from prfaas.control.curve import CurveKeys
from prfaas.control.kv_events import END_SEQ, read_frames
from prfaas.control.kv_order import Events, KvOrder, Note, Numbered
from prfaas.core.errors import WireError

PROBE_S = 5.0
"""After so much silence the publisher is asked for more: the last of its batches may be the lost one..."""
PROBES_DOUBLE = 3
"""...and, while nothing comes, after twice, four and eight times as much: a thousand idle publishers are many."""
REPLY_S = 10.0
RETRY_S = 1.0
QUEUE_MESSAGES = 100_000
MAX_MESSAGE_BYTES = 64 << 20
"""Twice what our publishers keep of all their batches; who sends more is disconnected."""
BATCH_BYTES = 256
"""That a batch takes besides its own."""
MAX_ANSWER_BYTES = 256 << 20
"""Of all batches that are repeated at once."""
READ_MESSAGES = 16
"""That are there already: taken before the event loop has its turn again."""
HANDSHAKE_MS = 2000
HEARTBEAT_MS = 5_000
MAX_RECONNECT_MS = 5_000
MOST_SOCKETS = 16_384

log = logging.getLogger(__name__)


def shared_context() -> "zmq.Context[zmq.Socket[bytes]]":
    """For all subscribers of a process: two threads, however many publishers they follow."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
    return context


class KvSubscriber:
    """One publisher's events in order. `note` hears of every hole and of how it was closed."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        events: str,
        replay: str | None,
        note: Callable[[Note], None],
        probe_s: float = PROBE_S,
        curve: tuple[CurveKeys, str] | None = None,
    ) -> None:
        """`events` and `replay` are host:port. Without `replay` lost events are lost; what was known is then unsaid.

        `curve`: our keys and the publisher's public one; both connections are then encrypted.
        """
        self._context = context
        self._curve = curve
        self._events_address = events
        self._replay_address = replay
        self._probe_s = probe_s
        self._order = KvOrder(self._ask if replay else None, note)
        self.in_step = False
        """Whether what was told so far is what the publisher said last, as far as we could hear it."""

    async def follow(self) -> AsyncGenerator[list[Events], None]:
        """Batches for ever, the first of them everything that is held. Raises WireError for what no publisher sends."""
        while True:
            with self._connected(zmq.SUB, self._events_address) as live, _losses(live) as losses:
                live.subscribe(b"")
                yield await self._until_answered(self._order.connected)
                async for batches in self._heard(live, losses):
                    yield batches

    async def _heard(self, live: zmq.asyncio.Socket, losses: "zmq.Socket[bytes]") -> AsyncGenerator[list[Events], None]:
        """Until the connection is lost: the next may lead to another life, and their numbers must not be mixed."""
        reader: zmq.Socket[bytes] = zmq.Socket.shadow(live.underlying)
        silences = 0
        while True:
            if not await live.poll(int(self._probe_s * 1000) << min(silences, PROBES_DOUBLE)):
                silences += 1
                if self._replay_address:
                    yield await self._until_answered(self._order.catch_up)
                continue
            silences = 0
            messages = _waiting(reader)
            if _waiting(losses):
                return
            for message in messages:
                batch = Numbered.of(*read_frames(message))
                yield await self._until_answered(lambda: self._order.take(batch))  # noqa: B023 — awaited here

    async def _until_answered(self, step: Callable[[], Awaitable[list[Events]]]) -> list[Events]:
        """A publisher that is gone for good is its registry's to notice."""
        complained = False
        while True:
            try:
                found = await step()
            except TimeoutError:
                self.in_step = False
                log.log(logging.DEBUG if complained else logging.WARNING, "%s does not answer", self._replay_address)
                complained = True
                await asyncio.sleep(RETRY_S)
            else:
                self.in_step = True
                return found

    async def _ask(self, start: bytes) -> list[Numbered]:
        assert self._replay_address, "nothing is asked where nobody would answer"
        answer: list[Numbered] = []
        left_bytes = MAX_ANSWER_BYTES
        with self._connected(zmq.DEALER, self._replay_address) as asking:
            await asking.send_multipart((b"", start))
            while True:
                async with asyncio.timeout(REPLY_S):
                    seq, payload = read_frames(await asking.recv_multipart())
                if seq == END_SEQ:
                    return answer
                # An empty batch takes memory, too.
                left_bytes -= len(payload) + BATCH_BYTES
                if left_bytes < 0:
                    raise WireError(f"{self._replay_address} repeats more than {MAX_ANSWER_BYTES >> 20} MiB of batches")
                answer.append(Numbered.of(seq, payload))
                await asyncio.sleep(0)  # to receive what has come already does not wait, and the loop has other work

    def _connected(self, kind: int, address: str) -> zmq.asyncio.Socket:
        connecting = zmq.asyncio.Socket(self._context, kind)
        connecting.linger = 0
        connecting.rcvhwm = QUEUE_MESSAGES
        connecting.maxmsgsize = MAX_MESSAGE_BYTES
        connecting.ipv6 = True
        connecting.reconnect_ivl_max = MAX_RECONNECT_MS
        connecting.heartbeat_ivl = HEARTBEAT_MS
        # Its publisher refuses us until it has heard our key, which it may a moment later; libzmq tries again after so
        # long (30 s by default).
        connecting.handshake_ivl = HANDSHAKE_MS
        if self._curve:
            keys, server_key = self._curve
            keys.connect(connecting, server_key)
        connecting.connect(f"tcp://{address}")
        return connecting


@contextmanager
def _losses(live: zmq.asyncio.Socket) -> Iterator["zmq.Socket[bytes]"]:
    """Hears of each loss of the connection before anything that another one brings can be read."""
    address = f"inproc://losses-{uuid4().hex}"
    live.monitor(address, zmq.EVENT_DISCONNECTED)
    with zmq.Socket(live.context, zmq.PAIR) as losses:
        losses.linger = 0
        losses.connect(address)
        try:
            yield losses
        finally:
            live.disable_monitor()


def _waiting(sock: "zmq.Socket[bytes]") -> list[list[bytes]]:
    """Messages that have come, some of them if they are many."""
    messages: list[list[bytes]] = []
    with suppress(zmq.Again):
        while len(messages) < READ_MESSAGES:
            messages.append(sock.recv_multipart(zmq.NOBLOCK))
    return messages

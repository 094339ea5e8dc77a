"""Follows what one instance publishes about its cache, without a hole: what was lost is asked for again.

Knows vLLM's sockets and messages, and not what the events mean to whoever reads them.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal

import zmq
import zmq.asyncio

from prfaas.control.curve import CurveKeys
from prfaas.control.kv_events import (
    END_SEQ,
    SEQ_BYTES,
    SNAPSHOT_REQUEST,
    AllBlocksCleared,
    KvEvent,
    decode,
    read_frames,
)

PROBE_S = 5.0
"""After so much silence the publisher is asked for more: the last of its batches may be the lost one."""
REPLY_S = 10.0
RETRY_S = 1.0
QUEUE_MESSAGES = 100_000
MAX_MESSAGE_BYTES = 64 << 20
"""Twice what our publishers keep of all their batches; who sends more is disconnected."""
HANDSHAKE_MS = 2000
HEARTBEAT_MS = 5_000
MAX_RECONNECT_MS = 5_000

Note = Literal["gap", "replay", "snapshot"]
"""A number did not follow the one before; batches were repeated; everything was told anew."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A batch, and its place: a later life of a publisher may reuse a number, but not its time."""

    seq: int
    ts_s: float
    events: tuple[KvEvent, ...]

    def repeats(self, last: "_Numbered") -> bool:
        """It was told before; a batch of another life would be younger."""
        return self.seq <= last.seq and self.ts_s <= last.ts_s


class KvSubscriber:
    """One publisher's events in order. `note` hears of every hole and of how it was closed."""

    def __init__(
        self,
        events: str,
        replay: str | None,
        note: Callable[[Note], None],
        probe_s: float = PROBE_S,
        curve: tuple[CurveKeys, str] | None = None,
    ) -> None:
        """`events` and `replay` are host:port. Without `replay` lost events are lost; what was known is then unsaid.

        `curve`: our keys and the publisher's public one; both connections are then encrypted.
        """
        self._curve = curve
        self._events_address = events
        self._replay_address = replay
        self._note = note
        self._probe_s = probe_s
        self._context = zmq.asyncio.Context()
        self._last: _Numbered | None = None

    async def follow(self) -> AsyncGenerator[tuple[KvEvent, ...], None]:
        """Batches for ever, the first of them everything that is held. Raises WireError for what no publisher sends.

        ZeroMQ reconnects by itself. Whoever stops iterating calls `close`.
        """
        with self._socket(zmq.SUB, self._events_address) as live:
            live.subscribe(b"")
            for batch in await self._catch_up():
                yield batch
            while True:
                for batch in await self._next(live):
                    yield batch

    def close(self) -> None:
        self._context.destroy(linger=0)

    async def _next(self, live: zmq.asyncio.Socket) -> list[tuple[KvEvent, ...]]:
        if not await live.poll(int(self._probe_s * 1000)):
            return await self._catch_up() if self._replay_address else []
        seq, payload = read_frames(await live.recv_multipart())
        batch = _numbered(seq, payload)
        missed: list[tuple[KvEvent, ...]] = []
        if not self._known(batch) and self._leaves_hole(batch):
            self._note("gap")
            missed = await self._catch_up()
        if self._known(batch):
            return missed
        self._last = batch
        return [*missed, batch.events]

    def _known(self, batch: _Numbered) -> bool:
        return self._last is not None and batch.repeats(self._last)

    def _leaves_hole(self, batch: _Numbered) -> bool:
        return self._last is not None and batch.seq != self._last.seq + 1

    async def _catch_up(self) -> list[tuple[KvEvent, ...]]:
        """What follows the last batch; else everything. Tries until the publisher answers."""
        complained = False
        while True:
            try:
                return await self._missed()
            except TimeoutError:
                # A publisher that is gone for good is its registry's to notice.
                log.log(logging.DEBUG if complained else logging.WARNING, "%s does not answer", self._replay_address)
                complained = True
                await asyncio.sleep(RETRY_S)

    async def _missed(self) -> list[tuple[KvEvent, ...]]:
        if self._last:
            last = self._last
            # The last one again, to see that it is still the same: after a restart the numbers begin anew.
            found = await self._ask(last.seq.to_bytes(SEQ_BYTES, "big"))
            if found and found[0].seq == last.seq and found[0].repeats(last):
                if len(found) > 1:
                    self._note("replay")
                return self._took(found[1:])
        if everything := await self._ask(SNAPSHOT_REQUEST):
            self._note("snapshot")
            return self._took(everything)
        # A server of vLLM has no more to tell than what it still can repeat.
        self._last = None
        return [(AllBlocksCleared(),), *self._took(await self._ask(bytes(SEQ_BYTES)))]

    def _took(self, batches: list[_Numbered]) -> list[tuple[KvEvent, ...]]:
        if batches:
            self._last = batches[-1]
        return [batch.events for batch in batches]

    async def _ask(self, start: bytes) -> list[_Numbered]:
        """Batches from number `start` on. Raises TimeoutError when the answer does not come to its end."""
        answer: list[_Numbered] = []
        if self._replay_address is None:
            return answer
        with self._socket(zmq.DEALER, self._replay_address) as asking:
            await asking.send_multipart((b"", start))
            while True:
                async with asyncio.timeout(REPLY_S):
                    seq, payload = read_frames(await asking.recv_multipart())
                if seq == END_SEQ:
                    return answer
                answer.append(_numbered(seq, payload))
                await asyncio.sleep(0)  # to receive what has come already does not wait, and the loop has other work

    def _socket(self, kind: int, address: str) -> zmq.asyncio.Socket:
        connecting = self._context.socket(kind)
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


def _numbered(seq: bytes, payload: bytes) -> _Numbered:
    batch = decode(payload)
    return _Numbered(int.from_bytes(seq, "big"), batch.ts, batch.events)

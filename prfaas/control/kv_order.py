"""One publisher's batches in their order, without a hole: what to take, what was told already, and what to ask for.

Knows no sockets and no time, that of batches included: their publisher's clock may be wrong.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from xxhash import xxh3_128_digest

from prfaas.control.kv_decode import decode
from prfaas.control.kv_events import SEQ_BYTES, SNAPSHOT_REQUEST, AllBlocksCleared, KvEvent

Note = Literal["gap", "replay", "snapshot"]
"""A number did not follow the one before; batches were repeated; everything was told anew."""

Events = tuple[KvEvent, ...]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A batch and its place. Another life of a publisher may use a number again, but not for the same bytes."""

    seq: int
    digest: bytes
    events: Events

    @classmethod
    def of(cls, seq: bytes, payload: bytes) -> "Numbered":
        """Raises WireError."""
        return cls(int.from_bytes(seq, "big"), xxh3_128_digest(payload), decode(payload).events)

    def is_same(self, other: "Numbered") -> bool:
        return self.seq == other.seq and self.digest == other.digest


Ask = Callable[[bytes], Awaitable[Sequence[Numbered]]]
"""Batches from a number on; all that is held for `SNAPSHOT_REQUEST`. Raises TimeoutError if their end does not come."""


class KvOrder:
    """Batches of one connection after another. On one connection numbers grow; some may be lost.

    Where an answer does not come, nothing has changed, and the same may be tried again.
    """

    def __init__(self, ask: Ask | None, note: Callable[[Note], None]) -> None:
        """Without `ask`, what was known is unsaid when something was lost."""
        self._ask = ask
        self._note = note
        self._last: Numbered | None = None
        """What was told so far ends with it."""
        self._live_seq = -1
        """Of this connection."""

    async def connected(self) -> list[Events]:
        """A connection, the first or another, hears what is published from now on; what it did not is returned."""
        self._live_seq = -1
        return await self.catch_up()

    async def take(self, batch: Numbered) -> list[Events]:
        """What came by the connection; returns what has to be applied now, which may be much more, or nothing."""
        last, grows = self._last, batch.seq > self._live_seq
        first = 0 if self._ask else batch.seq
        if grows and batch.seq == (last.seq + 1 if last else first):
            return self._next(batch)
        if last and batch.seq <= last.seq and (grows or batch.is_same(last)):
            self._live_seq = batch.seq
            return []  # the answer that we caught up with had it
        if grows:
            self._note("gap")
        missed = await self.catch_up()
        self._live_seq = batch.seq
        if self._last is None or batch.seq == self._last.seq + 1:
            return [*missed, *self._next(batch)]
        return missed  # with this batch, or what became of it

    async def catch_up(self) -> list[Events]:
        """What follows the last batch; else everything."""
        if self._ask is None:
            self._last = None
            return [(AllBlocksCleared(),)]
        if last := self._last:
            # The last one again, to see that it is still the same: after a restart the numbers begin anew.
            found = await self._ask(last.seq.to_bytes(SEQ_BYTES, "big"))
            if found and found[0].is_same(last):
                if len(found) > 1:
                    self._note("replay")
                return self._took(found[1:])
        if everything := await self._ask(SNAPSHOT_REQUEST):
            self._note("snapshot")
            return self._took(everything)
        # A server of vLLM has no more to tell than what it still can repeat.
        repeated = await self._ask(bytes(SEQ_BYTES))
        self._last = None
        return [(AllBlocksCleared(),), *self._took(repeated)]

    def _next(self, batch: Numbered) -> list[Events]:
        self._last, self._live_seq = batch, batch.seq
        return [batch.events]

    def _took(self, batches: Sequence[Numbered]) -> list[Events]:
        if batches:
            self._last = batches[-1]
        return [batch.events for batch in batches]

"""Tells everybody who listens what changes in the fleet, once a second. Knows no HTTP."""

import asyncio
import logging

import msgspec

from prfaas.core.errors import DrainingError, UnavailableError
from prfaas.gateway.fleet_changes import FleetStart, change_of
from prfaas.gateway.fleet_reply import FleetReply
from prfaas.gateway.fleet_state import FleetState
from prfaas.telemetry.watch_metrics import WatchMetrics

MAX_LISTENERS = 64
BACKLOG = 5
"""Events that wait for a listener; one that is further behind is sent away, and may come again."""

log = logging.getLogger(__name__)


class Listener:
    """One page. Its events are encoded once for all."""

    def __init__(self, start: bytes) -> None:
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(BACKLOG)
        self._events.put_nowait(start)

    async def next(self) -> bytes | None:
        """A server-sent event; None: there are no more."""
        return await self._events.get()

    def tell(self, event: bytes) -> bool:
        """False: it has not read the last ones."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            return False
        return True

    def end(self) -> None:
        """What it has not read is gone; its stream ends."""
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(None)


class FleetWatch:
    """To be ticked once a second: keeps the history, and does more only while somebody listens."""

    def __init__(self, state: FleetState, metrics: WatchMetrics) -> None:
        self.state = state
        self._metrics = metrics
        self._listeners: set[Listener] = set()
        self._last: FleetReply | None = None
        """What those who listen know."""
        self._seats = 0
        """Listeners whose streams have not ended, those sent away included: they may still hold their connection."""
        self._closed = False

    def tick(self) -> None:
        """A second has passed."""
        self.state.sample()
        if not self._listeners:
            return
        before, self._last = self._last, self.state.reply()
        assert before
        event = _event("change", change_of(before, self._last))
        for listener in [listener for listener in self._listeners if not listener.tell(event)]:
            self._listeners.discard(listener)
            self._metrics.ended.labels("slow").inc()
            listener.end()

    def join(self) -> Listener:
        """Whose first event is the whole fleet; its holder owes `leave`.

        Raises UnavailableError when there are too many, DrainingError after `close`.
        """
        if self._closed:
            raise DrainingError("the router is shutting down")
        if self._seats >= MAX_LISTENERS:
            self._metrics.ended.labels("full").inc()
            raise UnavailableError(f"{MAX_LISTENERS} listeners watch the fleet already; poll GET /fleet instead")
        # All listeners must start from what the next change is worked out against.
        if not self._listeners or self._last is None:
            self._last = self.state.reply()
        listener = Listener(_event("start", FleetStart(self._last, self.state.history.samples)))
        self._listeners.add(listener)
        self._seats += 1
        self._metrics.listeners.set(self._seats)
        return listener

    def leave(self, listener: Listener) -> None:
        """Its stream has ended. To be called once."""
        self._listeners.discard(listener)
        self._seats -= 1
        self._metrics.listeners.set(self._seats)

    def close(self) -> None:
        """Ends all streams, for good."""
        self._closed = True
        if self._listeners:
            log.info("%d listeners to the fleet's events are told goodbye", len(self._listeners))
        for listener in self._listeners:
            listener.end()
        self._listeners.clear()


def _event(name: str, content: msgspec.Struct) -> bytes:
    # One line: JSON has no raw line breaks.
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(content))

"""One direction of a tunnel: source socket → delay line → sink socket, with backpressure from end to end.

Knows no HTTP, no other connection, and not what ends a tunnel.
"""

import asyncio
import time
from collections.abc import Callable

from prfaas.relay.shaping import MIN_BUDGET_BYTES, TICK_S, DelayLine, OneWay

WRITE_HIGH_BYTES = 64 * 1024
"""Bytes a sink's transport may buffer before the line holds back. The sum with one chunk stays under the level at which
reading resumes (3/4 of the smallest budget), so an emptied line always restarts its source."""

_MAX_TIMER_S = 60.0


def half_close(transport: asyncio.Transport) -> None:
    """Sends FIN behind what was written; a peer whose reset is not noticed yet ends the connection instead."""
    try:
        transport.write_eof()
    except OSError:
        transport.abort()


class Flow:
    """Moves bytes from `source` to `sink`, which the tunnel attaches; `on_end` is called once EOF was handed on."""

    def __init__(self, path: OneWay, on_end: Callable[[], None]) -> None:
        self.path = path
        self.ended = False
        self._line = DelayLine(path)
        self._on_end = on_end
        self._source: asyncio.Transport | None = None
        self._sink: asyncio.Transport | None = None
        self._source_open = True
        self._reading = True
        self._bulk = False
        self._sink_ready = True
        self._timer: asyncio.TimerHandle | None = None

    @property
    def attached(self) -> bool:
        return self._source is not None

    def attach(self, source: asyncio.Transport, sink: asyncio.Transport) -> None:
        """Joins the two ends; what the source has sent before (some servers speak first) is on the line already."""
        self._source, self._sink = source, sink
        if self._timer is None:
            self._arm(time.monotonic())

    @property
    def held_bytes(self) -> int:
        """Bytes inside the relay: on the line, and waiting for the sink's socket."""
        return self._line.queued_bytes + (self._sink.get_write_buffer_size() if self._sink else 0)

    def feed(self, chunk: bytes) -> None:
        """Takes what the source sent; empty for its EOF."""
        if not self._source_open:
            return
        now_s = time.monotonic()
        self._source_open = bool(chunk)
        self._line.push(self.path.flips.apply(chunk), now_s)
        if self._timer is None:
            self._arm(now_s)
        self._balance()

    def sink_full(self) -> None:
        self._sink_ready = False

    def sink_drained(self) -> None:
        self._sink_ready = True
        if self._timer is None:
            self._pump()

    def resume(self) -> None:
        """The link is no longer stalled."""
        if self._timer is None:
            self._arm(time.monotonic())

    def stop(self) -> None:
        """Drops what is on the way; nothing is delivered after this."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._line.clear()
        self._source_open = False
        self._count_bulk(False)

    def _pump(self) -> None:
        """Delivers what has arrived, for as long as the sink takes it."""
        assert self._sink is not None
        self._timer = None
        if self.path.stalled:
            return
        now_s = time.monotonic()
        early = True
        while self._sink_ready and not self._sink.is_closing() and (chunk := self._line.pop(now_s)) is not None:
            early = False
            if not chunk:
                self._end(self._sink)
                return
            self._sink.write(chunk)
            self.path.carried_bytes += len(chunk)
        # A loop that rounds timers down (uvloop) wakes up too early: waiting a whole tick more avoids a busy loop.
        self._arm(now_s, at_least_s=TICK_S if early else 0.0)
        self._balance()

    def _end(self, sink: asyncio.Transport) -> None:
        self.ended = True
        self._count_bulk(False)
        half_close(sink)
        self._on_end()

    def _arm(self, now_s: float, at_least_s: float = 0.0) -> None:
        arrival_s = self._line.next_arrival_s()
        if arrival_s is not None and self._sink_ready and self._sink is not None and not self.path.stalled:
            wait_s = min(max(arrival_s - now_s, at_least_s), _MAX_TIMER_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._pump)

    def _count_bulk(self, bulk: bool) -> None:
        self.path.bulk_flows += bulk - self._bulk
        self._bulk = bulk

    def _balance(self) -> None:
        """Stops reading when the next chunk could pass the budget, and resumes a quarter below it."""
        if self._source is None or not self._source_open:
            return
        held = self.held_bytes
        self._count_bulk(held > MIN_BUDGET_BYTES // 2)
        budget = self.path.budget_bytes
        if self._reading and held > budget - self.path.chunk_bytes:
            self._reading = False
            self._source.pause_reading()
        elif not self._reading and held <= budget * 3 // 4:
            self._reading = True
            self._source.resume_reading()

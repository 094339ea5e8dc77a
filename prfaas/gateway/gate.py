"""Lets requests in until the router drains, and ends each when its client leaves or the time to drain is over."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.types import Receive

from prfaas.core.errors import DrainingError
from prfaas.gateway.errors import ClientGoneError
from prfaas.gateway.waiting_room import WaitingRoom
from prfaas.telemetry.metrics import RouterMetrics

FAREWELL_S = 2.0
"""How long the last error may take to reach clients that read slowly."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Gate:
    """Counts the requests inside; closes for good with `drain`."""

    def __init__(self, metrics: RouterMetrics, room: WaitingRoom) -> None:
        self._metrics = metrics
        self._room = room
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._cuts: set[asyncio.Future[None]] = set()
        """One for each request inside, done when the time to drain is over."""
        self._time_is_up = False
        self.draining = False

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """One request inside, to the last byte of its answer. Raises DrainingError once closed."""
        if self.draining:
            raise DrainingError("the router is shutting down; send the request again")
        self._inside += 1
        self._empty.clear()
        try:
            with self._metrics.in_flight.track_inprogress():
                yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._empty.set()

    async def until_gone(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end, or cancels it: ClientGoneError, or DrainingError when draining takes too long.

        The request's body must have been read before, since then the next message can only be the disconnect.
        """
        task = asyncio.create_task(work)
        gone = asyncio.create_task(_disconnect(receive))
        cut = asyncio.get_running_loop().create_future()
        self._cuts.add(cut)
        if self._time_is_up:
            cut.set_result(None)
        try:
            await asyncio.wait({task, gone, cut}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise ClientGoneError("the client left before its answer ended")
            raise DrainingError("the router shut down before this answer ended")
        finally:
            self._cuts.discard(cut)
            gone.cancel()
            # An answer that is complete does not wait for the loop to see that nobody listens for a disconnect.
            if not task.done():
                task.cancel()
                await asyncio.gather(task, gone, return_exceptions=True)

    async def drain(self, timeout_s: float) -> int:
        """Takes no new requests and waits for those inside; ends the rest with an error. Returns how many those were.

        Requests that still wait to be let into the fleet end at once.
        `timeout_s` bounds the waiting, not the farewell to the rest, which takes up to `FAREWELL_S` more.
        """
        self.draining = True
        self._room.close()
        await self._emptied(timeout_s)
        if (cut := self._inside) == 0:
            return 0
        log.warning("%d requests did not end within %g s and are cut off", cut, timeout_s)
        self._time_is_up = True
        for request in list(self._cuts):
            if not request.done():
                request.set_result(None)
        await self._emptied(FAREWELL_S)
        return cut

    async def _emptied(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

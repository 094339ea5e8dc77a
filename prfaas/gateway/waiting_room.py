"""Where requests wait while the fleet is contended: a bounded room with two classes, first come first served in each.

Knows neither views nor policies: whoever enters brings an attempt that succeeds, or raises ContendedError.
"""

import asyncio
from collections.abc import Callable

from prfaas.config.sections import AdmissionSection, Priority
from prfaas.core.clock import Clock
from prfaas.core.errors import ContendedError, DrainingError, UnavailableError
from prfaas.telemetry.admission_metrics import AdmissionMetrics, Refused

TRIES = 8
"""Interactive requests that are looked at in vain before the rest waits for the next look: one that is too long for
now does not hold up all behind it, and a look stays short."""

Attempt = Callable[[], object]


class _Waiter:
    def __init__(self, attempt: Attempt, priority: Priority, refusal: ContendedError) -> None:
        self.attempt = attempt
        self.priority = priority
        self.refusal = refusal
        """The latest: what the client is told if it waited in vain."""
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class WaitingRoom:
    """Lets requests into the fleet. Interactive ones go first; batch ones come in while no interactive one waits."""

    def __init__(self, section: AdmissionSection, metrics: AdmissionMetrics, clock: Clock) -> None:
        self.batch_share = section.batch_share
        self._section = section
        self._metrics = metrics
        self._clock = clock
        self._queues: dict[Priority, dict[_Waiter, None]] = {"interactive": {}, "batch": {}}
        self._look_is_due = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests of both classes."""
        return sum(len(queue) for queue in self._queues.values())

    def waiting_in(self, priority: Priority) -> int:
        """Requests of one class."""
        return len(self._queues[priority])

    async def enter(self, attempt: Attempt, priority: Priority, patience_s: float) -> None:
        """Returns when `attempt` has succeeded, which it is asked for again whenever the fleet may have more room.

        Raises ContendedError when the room is full, or after `max_wait_s` or `patience_s`; DrainingError when the room
        closes; and at once whatever else the attempt raises.
        """
        if self._closed:
            raise DrainingError("the router is shutting down; send the request again")
        refusal = self._try_at_once(attempt, priority)
        if refusal is None:
            return
        wait_s = min(self._section.max_wait_s, patience_s)
        if wait_s <= 0:
            raise self._refusal("contended", priority, refusal)
        self._make_room(priority, refusal)
        await self._wait(_Waiter(attempt, priority, refusal), wait_s)

    def look_soon(self) -> None:
        """The fleet may have more room than before. Cheap, however often it is called."""
        if not self._look_is_due and self.waiting:
            self._look_is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def close(self) -> None:
        """Who waits is told that the router is draining, and so is who comes."""
        self._closed = True
        for queue in self._queues.values():
            for waiter in queue:
                if not waiter.end.done():
                    waiter.end.set_exception(DrainingError("the router is shutting down; send the request again"))

    def _try_at_once(self, attempt: Attempt, priority: Priority) -> ContendedError | None:
        """None: it is in."""
        ahead = [*self._queues["interactive"], *(self._queues["batch"] if priority == "batch" else ())]
        if ahead:
            self.look_soon()
            return ContendedError(f"requests that came before wait, too: {len(ahead)}", ahead[0].refusal.retry_after_s)
        try:
            attempt()
        except ContendedError as refusal:
            return refusal
        except UnavailableError:
            self._metrics.refused("unavailable", priority)
            raise
        return None

    def _make_room(self, priority: Priority, refusal: ContendedError) -> None:
        """Where the room is full, the last batch request leaves it for an interactive one."""
        if self.waiting < self._section.max_waiting_requests:
            return
        batch = self._queues["batch"]
        last = next((waiter for waiter in reversed(batch) if not waiter.end.done()), None)
        if priority == "batch" or last is None:
            raise self._refusal("room_full", priority, refusal)
        del batch[last]
        last.end.set_exception(self._refusal("room_full", "batch", last.refusal))

    async def _wait(self, waiter: _Waiter, wait_s: float) -> None:
        queue, since_s = self._queues[waiter.priority], self._clock()
        queue[waiter] = None
        self._metrics.waiting.labels(waiter.priority).inc()
        try:
            async with asyncio.timeout(wait_s):
                await waiter.end
        except TimeoutError:
            if waiter.end.cancelled():
                raise self._refusal("waited_too_long", waiter.priority, waiter.refusal) from None
            waiter.end.result()  # it came in, or was refused, in the very moment
        finally:
            queue.pop(waiter, None)
            if waiter.end.done() and not waiter.end.cancelled():
                waiter.end.exception()  # known, also where the client left in the same moment
            self.look_soon()
            self._metrics.waiting.labels(waiter.priority).dec()
            self._metrics.waited.labels(waiter.priority).observe(self._clock() - since_s)

    def _look(self) -> None:
        self._look_is_due = False
        if self._look_at(self._queues["interactive"], TRIES):
            self._look_at(self._queues["batch"], 1)

    def _look_at(self, queue: dict[_Waiter, None], tries: int) -> bool:
        """Whether nobody waits any longer; gives up when so many attempts were in vain."""
        for waiter in list(queue):
            if not self._ends(waiter):
                tries -= 1
                if tries == 0:
                    return False
        return not queue

    def _ends(self, waiter: _Waiter) -> bool:
        """Whether it waits no longer, for better or worse."""
        if not waiter.end.done():
            try:
                waiter.attempt()
                waiter.end.set_result(None)
            except ContendedError as refusal:
                waiter.refusal = refusal
                return False
            except UnavailableError as error:
                self._metrics.refused("unavailable", waiter.priority)
                waiter.end.set_exception(error)
            except Exception as error:  # noqa: BLE001 - raised again where the request waits
                waiter.end.set_exception(error)
        self._queues[waiter.priority].pop(waiter, None)
        return True

    def _refusal(self, reason: Refused, priority: Priority, refusal: ContendedError) -> ContendedError:
        self._metrics.refused(reason, priority)
        why = {
            "room_full": "; no more requests may wait",
            "waited_too_long": f"; it waited {self._section.max_wait_s:g} s at most",
        }.get(reason, "")
        return ContendedError(f"the fleet is contended: {refusal}{why}", refusal.retry_after_s)

"""The outcome of one incoming transfer, whoever decides it first: the data plane, the prefill call, or patience."""

import asyncio

from prfaas.core.clock import Clock
from prfaas.transport.inbox import Outcome


class Attempt:
    """Belongs to one event loop; only `end_from_thread` may be called from elsewhere."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._heard_s = clock()
        self.prefilled_s: float | None = None
        """When it was heard that the prefill is over; None before."""
        self.outcome: asyncio.Future[Outcome] = self._loop.create_future()

    def alive(self) -> None:
        """Something was computed, sent or received."""
        self._heard_s = self._clock()

    def prefilled(self) -> None:
        """All is computed: only the link is waited for."""
        if self.prefilled_s is None:
            self.prefilled_s = self._clock()

    def silent_s(self) -> float:
        """Since the last sign of life."""
        return self._clock() - self._heard_s

    def end(self, outcome: Outcome) -> None:
        """The first outcome counts."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def end_from_thread(self, outcome: Outcome) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.end, outcome)

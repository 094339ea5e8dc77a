"""A clock that stands while this process does not run: who could not listen has not heard silence.

Knows nothing of instances. It must be told regularly that the process runs.
"""

import asyncio
import logging

from prfaas.core.clock import Clock
from prfaas.telemetry.awake_metrics import AwakeMetrics

TICK_S = 0.25
"""Between two signs that the event loop runs."""
MOST_S = 0.5
"""What goes by between two of them counts up to this; a loop that is merely busy loses nothing."""
NOTED_S = 1.0
"""That one stall lasts, to be logged."""

log = logging.getLogger(__name__)


class AwakeClock:
    """Stopped, starved or busy for seconds, a router finds the heartbeats of that time in its sockets, yet unread."""

    def __init__(self, clock: Clock, metrics: AwakeMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._last_s = clock()
        self._lost_s = 0.0

    def __call__(self) -> float:
        """Seconds, without those that were lost; never runs backwards."""
        return min(self._clock(), self._last_s + MOST_S) - self._lost_s

    def tick(self) -> None:
        """The event loop runs."""
        now_s = self._clock()
        stalled_s = max(0.0, now_s - self._last_s - MOST_S)
        self._lost_s += stalled_s
        self._last_s = now_s
        if stalled_s:
            self._metrics.stalled_seconds.inc(stalled_s)
        if stalled_s > NOTED_S:
            log.warning("this process did not run for %.1f s; nobody is taken for silent because of that", stalled_s)

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

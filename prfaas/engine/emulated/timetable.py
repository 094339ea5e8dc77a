"""When the parts of emulated steps end. Steps that follow each other do so without a gap, whatever lies between them.

A step that ended late, because the machine was busy, shortens the next one: on average time passes as it should.
"""

from collections.abc import Callable

from prfaas.core.clock import Clock

FORGIVEN_S = 1.0
"""What is later than that is not made up for: the engine would do nothing but catch up."""


class Timetable:
    """Of one engine. Its clock and its sleep are injected."""

    def __init__(self, clock: Clock, sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._begun_s = self._ends_s = 0.0
        self._resting = True

    def begin(self, seconds: float) -> None:
        """A step that takes so long begins where the last one should have ended, or now if there was a rest."""
        now_s = self._clock()
        late = self._resting or now_s - self._ends_s > FORGIVEN_S
        self._begun_s = now_s if late else self._ends_s
        self._ends_s = self._begun_s + seconds
        self._resting = False

    def wait(self, share: float) -> None:
        """Returns when that share of the step is over, at once if it is already."""
        left_s = self._begun_s + share * (self._ends_s - self._begun_s) - self._clock()
        if left_s > 0:
            self._sleep(left_s)

    @property
    def late_s(self) -> float:
        """How long ago the step should have ended; 0 while it need not have."""
        return max(0.0, self._clock() - self._ends_s)

    def rest(self) -> None:
        """Nothing follows for now."""
        self._resting = True

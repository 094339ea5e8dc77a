"""A token bucket: so much at once, and so much a second in the long run. Knows no keys; its clock is given."""

from prfaas.core.clock import Clock


class TokenBucket:
    """Never gives out more than `burst + per_s * seconds`, less what was given back."""

    def __init__(self, per_s: float, burst: float, clock: Clock) -> None:
        """Full at first."""
        self.per_s = per_s
        self.burst = burst
        self._clock = clock
        self._level = float(burst)
        self._filled_s = clock()

    def take(self, amount: float) -> float:
        """0 where `amount` is taken; else nothing is, and these are the seconds until there is enough.

        More than `burst` is never there: the seconds are infinite.
        """
        self._fill()
        if amount <= self._level:
            self._level -= amount
            return 0.0
        return float("inf") if amount > self.burst else (amount - self._level) / self.per_s

    def give_back(self, amount: float) -> None:
        """What was taken and not used; what the bucket has no room for is lost."""
        self._fill()
        self._level = min(self.burst, self._level + amount)

    def _fill(self) -> None:
        now_s = self._clock()
        self._level = min(self.burst, self._level + self.per_s * (now_s - self._filled_s))
        self._filled_s = now_s

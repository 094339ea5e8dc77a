"""What requests were like lately, as this router placed them. Knows no instances; its clock is injected."""

from prfaas.core.clock import Clock
from prfaas.policy.arrival_rate import ArrivalRate
from prfaas.policy.recent import Recent

HALF_LIFE_REQUESTS = 1_000
"""Of what latest prompts are remembered by."""
MAX_HIT_RATE = 0.99
_KEPT = 0.5 ** (1 / HALF_LIFE_REQUESTS)


class Traffic:
    """Uncached lengths, how much of the prompts was cached, and how often they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.lengths = Recent(HALF_LIFE_REQUESTS)
        """Of what had to be computed, in tokens."""
        self.placed = 0
        """Requests since the start."""
        self._rate = ArrivalRate(clock())
        self._uncached_tokens = self._prompt_tokens = 0.0

    def add(self, prompt_tokens: int, uncached_tokens: int) -> None:
        """A request was placed."""
        self.placed += 1
        self.lengths.add(max(1, uncached_tokens))
        self._prompt_tokens = self._prompt_tokens * _KEPT + prompt_tokens
        self._uncached_tokens = self._uncached_tokens * _KEPT + uncached_tokens

    @property
    def hit_rate(self) -> float:
        """Share of the prompts' tokens that was cached."""
        if not self._prompt_tokens:
            return 0.0
        return min(max(0.0, 1 - self._uncached_tokens / self._prompt_tokens), MAX_HIT_RATE)

    def rate_req_s(self) -> float:
        """As of now; to be asked every few seconds."""
        self._rate.observe(self._clock(), self.placed)
        return self._rate.req_s

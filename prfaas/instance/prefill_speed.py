"""How fast this instance prefills, from the steps it has run. Reads no clock."""

SMOOTHING = 0.2
"""Weight of the last step."""
LEVER_TOKENS = 64
"""Steps with fewer tokens of prefill say more of the decodes beside them."""


class PrefillSpeed:
    """Smoothed over steps, whatever else they carried: that is what a prompt would have to share them with."""

    def __init__(self) -> None:
        self._tokens_s = 0.0

    def observe(self, prefill_tokens: int, seconds: float) -> None:
        """One step."""
        if prefill_tokens < LEVER_TOKENS or seconds <= 0:
            return
        speed = prefill_tokens / seconds
        self._tokens_s = self._tokens_s + SMOOTHING * (speed - self._tokens_s) if self._tokens_s else speed

    def seconds(self, tokens: int) -> float | None:
        """For a prompt of so many tokens; None before anything was seen."""
        return tokens / self._tokens_s if self._tokens_s else None

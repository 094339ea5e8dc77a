"""How likely a drawn token was, and which tokens were likeliest in its place. Knows ids only, no text."""

from dataclasses import dataclass

MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of the model's own distribution: before penalties, biases, grammars and temperature."""

    logprob: float
    """Of the drawn token."""
    top: tuple[tuple[int, float], ...] = ()
    """(token id, logprob), the likeliest first; the drawn token need not be among them."""

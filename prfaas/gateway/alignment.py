"""Keeps logprobs in step with text: a token is told when its text is, and never if a stop string cut it off."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from prfaas.core.logprobs import TokenLogprobs


class ScoredToken(NamedTuple):
    """A token of an answer. `offset`: characters of the answer before it."""

    token_id: int
    offset: int
    logprobs: TokenLogprobs


class Alignment:
    """One answer; tokens go in as they come, and out with the text that they began."""

    def __init__(self) -> None:
        self._pending: deque[ScoredToken] = deque()
        self._shown_chars = 0

    def push(self, token_id: int, offset: int, logprobs: TokenLogprobs) -> None:
        """`offset`: characters decoded before this token; offsets never fall."""
        self._pending.append(ScoredToken(token_id, offset, logprobs))

    def show(self, text: str) -> Sequence[ScoredToken]:
        """The tokens to be told with `text`, the next part of the answer."""
        self._shown_chars += len(text)
        ready = []
        while self._pending and self._pending[0].offset < self._shown_chars:
            ready.append(self._pending.popleft())
        return ready

    def rest(self) -> Sequence[ScoredToken]:
        """What is left when an answer ends that was not cut: tokens without text of their own."""
        ready, self._pending = list(self._pending), deque()
        return ready

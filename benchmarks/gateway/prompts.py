"""Bodies of requests: chats that nobody has seen before, and one that grows turn by turn."""

import json
import random
from collections.abc import Sequence

from prfaas.gateway.chat_template import Message

WHOLE_TOKENS = 8
"""Of an answer that is not streamed."""
KB, LONG_KB = 1_000, 100_000
TURN_CHARS = 1_000


class Prompts:
    """Cut from one long text at random places."""

    def __init__(self, text: str, model: str, seed: int) -> None:
        self._text = text
        self._model = model
        self._rng = random.Random(seed)

    def cut(self, chars: int) -> str:
        """A piece of the text."""
        start = self._rng.randrange(len(self._text) - chars)
        return self._text[start : start + chars]

    def unseen(self, chars: int) -> list[Message]:
        """A chat of one message, which is not like any before it but by chance."""
        return [{"role": "user", "content": f"{self._rng.random()} {self.cut(chars)}"}]

    def conversation(self, chars: int) -> list[Message]:
        """Turns of a chat of about so many characters."""
        return [self._turn(i) for i in range(chars // TURN_CHARS | 1)]

    def go_on(self, chat: list[Message]) -> list[Message]:
        """The same chat with an answer and the next question behind it."""
        return [*chat, self._turn(len(chat)), self._turn(len(chat) + 1)]

    def body(self, chat: Sequence[Message], max_tokens: int = WHOLE_TOKENS, *, stream: bool = False) -> bytes:
        """Of a request."""
        asked = {"model": self._model, "messages": chat, "max_tokens": max_tokens, "stream": stream}
        return json.dumps(asked).encode()

    def _turn(self, number: int) -> Message:
        return {"role": "assistant" if number % 2 else "user", "content": self.cut(TURN_CHARS)}

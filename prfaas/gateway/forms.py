"""The two shapes of an answer, chat and text: the same pieces in different clothes."""

from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from prfaas.gateway.replies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    FinishWord,
    TextChoice,
    TextCompletion,
    Trace,
    Usage,
)

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when an answer is complete."""

    finish_reason: FinishWord
    usage: Usage
    trace: Trace | UnsetType


class Form(Protocol):
    """How one endpoint writes an answer: whole, or as the chunks of a stream."""

    def whole(self, text: str, ending: Ending) -> bytes: ...

    def opening(self) -> bytes | None:
        """What a stream begins with, before any text."""

    def piece(self, text: str) -> bytes: ...

    def closing(self, ending: Ending) -> list[bytes]:
        """The chunk with the finish reason and, where it was asked for, the one with the usage."""


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats. `created_s` is Unix time."""

    request_id: str
    created_s: int
    model: str
    include_usage: bool

    @property
    def no_usage(self) -> UnsetType | None:
        """With include_usage, chunks before the last carry `usage: null`."""
        return None if self.include_usage else UNSET


@dataclass(frozen=True, slots=True)
class ChatForm:
    """`chat.completion` and `chat.completion.chunk`."""

    head: Head

    def whole(self, text: str, ending: Ending) -> bytes:
        choice = ChatChoice(ChatMessage(text), ending.finish_reason)
        head = self.head
        return _encode(
            ChatCompletion(head.request_id, head.created_s, head.model, [choice], ending.usage, prfaas=ending.trace)
        )

    def opening(self) -> bytes | None:
        return self._chunk(ChatChunkChoice(ChatDelta(role="assistant", content="")))

    def piece(self, text: str) -> bytes:
        return self._chunk(ChatChunkChoice(ChatDelta(content=text)))

    def closing(self, ending: Ending) -> list[bytes]:
        last = ChatChunkChoice(ChatDelta(), ending.finish_reason)
        if not self.head.include_usage:
            return [self._chunk(last, ending.trace)]
        head = self.head
        usage = ChatChunk(head.request_id, head.created_s, head.model, [], ending.usage, prfaas=ending.trace)
        return [self._chunk(last), _encode(usage)]

    def _chunk(self, choice: ChatChunkChoice, trace: Trace | UnsetType = UNSET) -> bytes:
        head = self.head
        return _encode(ChatChunk(head.request_id, head.created_s, head.model, [choice], head.no_usage, prfaas=trace))


@dataclass(frozen=True, slots=True)
class TextForm:
    """`text_completion`, whole or in chunks."""

    head: Head

    def whole(self, text: str, ending: Ending) -> bytes:
        return self._write([TextChoice(text, ending.finish_reason)], ending.usage, ending.trace)

    def opening(self) -> bytes | None:
        return None

    def piece(self, text: str) -> bytes:
        return self._write([TextChoice(text)], self.head.no_usage)

    def closing(self, ending: Ending) -> list[bytes]:
        last = [TextChoice("", ending.finish_reason)]
        if not self.head.include_usage:
            return [self._write(last, UNSET, ending.trace)]
        return [self._write(last, None), self._write([], ending.usage, ending.trace)]

    def _write(
        self, choices: list[TextChoice], usage: Usage | UnsetType | None, trace: Trace | UnsetType = UNSET
    ) -> bytes:
        head = self.head
        return _encode(TextCompletion(head.request_id, head.created_s, head.model, choices, usage, prfaas=trace))

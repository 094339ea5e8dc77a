"""The two shapes of an answer, chat and text: the same pieces in different clothes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from prfaas.gateway import errors
from prfaas.gateway.answer import Piece
from prfaas.gateway.errors import ApiError
from prfaas.gateway.logprob_replies import chat_logprobs, text_logprobs
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
    Traces,
    Usage,
)
from prfaas.gateway.token_bytes import TokenBytes

_encode = msgspec.json.Encoder().encode
_Frame = tuple[bytes, bytes]
"""What is before and after a chunk's text: all chunks of a choice have the same."""
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when all choices are complete."""

    usage: Usage
    traces: Traces | UnsetType


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats. `created_s` is Unix time."""

    request_id: str
    created_s: int
    model: str
    include_usage: bool
    logprobs: bool

    @property
    def no_usage(self) -> UnsetType | None:
        """With include_usage, chunks before the last carry `usage: null`."""
        return None if self.include_usage else UNSET


class Form(Protocol):
    """How one endpoint writes an answer: whole as JSON, or as server-sent events, one method giving any number."""

    @property
    def head(self) -> Head: ...

    @property
    def done(self) -> bytes:
        """What a stream that went well ends with."""

    def whole(self, choices: Sequence[Piece], ending: Ending) -> bytes:
        """`choices` have their whole texts, all tokens, and finish reasons."""

    def opening(self, index: int, usage: Usage | None) -> bytes | None:
        """What a choice of a stream begins with, before any text. `usage`: so far, for clients that follow it."""

    def piece(self, piece: Piece, usage: Usage | None) -> bytes: ...

    def closing(self, index: int, reason: FinishWord, usage: Usage | None, traces: Traces | UnsetType = UNSET) -> bytes:
        """The last chunk of a choice."""

    def usage(self, ending: Ending) -> bytes:
        """The last chunk of a stream whose client asked for usage."""

    def failure(self, error: ApiError) -> bytes:
        """What a stream ends with that broke."""


class _Chunks:
    """What the streams of chats and texts have in common."""

    __slots__ = ()
    done = DONE

    def failure(self, error: ApiError) -> bytes:
        return framed(errors.body(error))


def framed(data: bytes) -> bytes:
    """One event."""
    return b"data: " + data + b"\n\n"


@dataclass(frozen=True, slots=True)
class ChatForm(_Chunks):
    """`chat.completion` and `chat.completion.chunk`."""

    head: Head
    table: TokenBytes
    _frames: dict[int, _Frame] = field(default_factory=dict, repr=False, compare=False)
    """Of chunks with nothing but text, by choice."""

    def whole(self, choices: Sequence[Piece], ending: Ending) -> bytes:
        head = self.head
        written = []
        for piece in choices:
            assert piece.finish_reason, "a whole choice has ended"
            logprobs = chat_logprobs(piece.tokens, self.table) if head.logprobs else None
            written.append(ChatChoice(ChatMessage(piece.text), piece.finish_reason, piece.choice, logprobs))
        return _encode(
            ChatCompletion(head.request_id, head.created_s, head.model, written, ending.usage, prfaas=ending.traces)
        )

    def opening(self, index: int, usage: Usage | None) -> bytes | None:
        return self._chunk(ChatChunkChoice(ChatDelta(role="assistant", content=""), index=index), usage)

    def piece(self, piece: Piece, usage: Usage | None) -> bytes:
        if not self.head.logprobs and usage is None:
            before, after = self._frame(piece.choice)
            return before + _encode(piece.text) + after
        logprobs = chat_logprobs(piece.tokens, self.table) if self.head.logprobs else None
        return self._chunk(ChatChunkChoice(ChatDelta(content=piece.text), None, piece.choice, logprobs), usage)

    def closing(self, index: int, reason: FinishWord, usage: Usage | None, traces: Traces | UnsetType = UNSET) -> bytes:
        return self._chunk(ChatChunkChoice(ChatDelta(), reason, index), usage, traces)

    def usage(self, ending: Ending) -> bytes:
        head = self.head
        chunk = ChatChunk(head.request_id, head.created_s, head.model, [], ending.usage, prfaas=ending.traces)
        return framed(_encode(chunk))

    def _frame(self, index: int) -> _Frame:
        if (frame := self._frames.get(index)) is None:
            empty = self._chunk(ChatChunkChoice(ChatDelta(content=""), index=index), None)
            frame = self._frames[index] = _around(b'"content":', empty)
        return frame

    def _chunk(self, choice: ChatChunkChoice, usage: Usage | None, traces: Traces | UnsetType = UNSET) -> bytes:
        head, used = self.head, usage or self.head.no_usage
        return framed(_encode(ChatChunk(head.request_id, head.created_s, head.model, [choice], used, prfaas=traces)))


@dataclass(frozen=True, slots=True)
class TextForm(_Chunks):
    """`text_completion`, whole or in chunks."""

    head: Head
    table: TokenBytes
    _frames: dict[int, _Frame] = field(default_factory=dict, repr=False, compare=False)
    """Of chunks with nothing but text, by choice."""

    def whole(self, choices: Sequence[Piece], ending: Ending) -> bytes:
        return self._write([self._choice(piece, piece.finish_reason) for piece in choices], ending.usage, ending.traces)

    def opening(self, index: int, usage: Usage | None) -> bytes | None:  # noqa: ARG002 - texts begin without ceremony
        return None

    def piece(self, piece: Piece, usage: Usage | None) -> bytes:
        if not self.head.logprobs and usage is None:
            before, after = self._frame(piece.choice)
            return before + _encode(piece.text) + after
        return framed(self._write([self._choice(piece, None)], usage or self.head.no_usage))

    def closing(self, index: int, reason: FinishWord, usage: Usage | None, traces: Traces | UnsetType = UNSET) -> bytes:
        return framed(self._write([TextChoice("", reason, index)], usage or self.head.no_usage, traces))

    def usage(self, ending: Ending) -> bytes:
        return framed(self._write([], ending.usage, ending.traces))

    def _frame(self, index: int) -> _Frame:
        if (frame := self._frames.get(index)) is None:
            empty = framed(self._write([TextChoice("", index=index)], self.head.no_usage))
            frame = self._frames[index] = _around(b'"text":', empty)
        return frame

    def _choice(self, piece: Piece, reason: FinishWord | None) -> TextChoice:
        logprobs = text_logprobs(piece.tokens, self.table) if self.head.logprobs else None
        return TextChoice(piece.text, reason, piece.choice, logprobs)

    def _write(
        self, choices: list[TextChoice], usage: Usage | UnsetType | None, traces: Traces | UnsetType = UNSET
    ) -> bytes:
        head = self.head
        return _encode(TextCompletion(head.request_id, head.created_s, head.model, choices, usage, prfaas=traces))


def _around(key: bytes, chunk: bytes) -> _Frame:
    """Cuts out the empty text of `key`. No other value can contain this, since quotes inside of strings are escaped."""
    before, after = chunk.split(key + b'""')
    return before + key, after

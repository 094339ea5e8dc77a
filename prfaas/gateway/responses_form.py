"""The shape of an answer of `/v1/responses`: one response with one message, whole or as typed events."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from prfaas.gateway.answer import Piece
from prfaas.gateway.errors import INVALID_REQUEST, RATE_LIMIT, ApiError
from prfaas.gateway.forms import Ending, Head
from prfaas.gateway.logprob_replies import chat_logprobs
from prfaas.gateway.replies import FinishWord, TokenLogprob, Traces, Usage
from prfaas.gateway.responses_body import ResponsesBody
from prfaas.gateway.responses_replies import (
    DeltaEvent,
    EndKind,
    Event,
    FailureCode,
    IncompleteDetails,
    InputTokensDetails,
    ItemEvent,
    ItemStatus,
    OutputMessage,
    OutputText,
    PartEvent,
    ResponseEvent,
    ResponseFailure,
    ResponseReply,
    ResponseUsage,
    Status,
    TextEvent,
)
from prfaas.gateway.token_bytes import TokenBytes

_encode = msgspec.json.Encoder().encode
_CODES: dict[str, FailureCode] = {INVALID_REQUEST: "invalid_prompt", RATE_LIMIT: "rate_limit_exceeded"}
_STATUS: dict[FinishWord, ItemStatus] = {"stop": "completed", "length": "incomplete"}


class ResponsesForm:
    """Of one answer: counts the events of its stream, and keeps its text, which the last of them repeat."""

    done = b""

    def __init__(self, head: Head, table: TokenBytes, body: ResponsesBody) -> None:
        self.head = head
        self._table = table
        self._body = body
        self._item_id = f"msg-{head.request_id}"
        self._num_events = 0
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._status: ItemStatus = "in_progress"

    def whole(self, choices: Sequence[Piece], ending: Ending) -> bytes:
        (piece,) = choices
        assert piece.finish_reason, "a whole choice has ended"
        self._take(piece)
        self._status = _STATUS[piece.finish_reason]
        return _encode(self._ended(ending))

    def opening(self, index: int, usage: Usage | None) -> bytes:  # noqa: ARG002 - there is one choice, counted at its end
        begun, item = self._reply("in_progress", []), OutputMessage(self._item_id, "in_progress", [])
        events: list[Event] = [
            ResponseEvent(type="response.created", sequence_number=self._next(), response=begun),
            ResponseEvent(type="response.in_progress", sequence_number=self._next(), response=begun),
            ItemEvent(type="response.output_item.added", sequence_number=self._next(), item=item),
            self._part_event("response.content_part.added", OutputText("", [])),
        ]
        return b"".join(map(_framed, events))

    def piece(self, piece: Piece, usage: Usage | None) -> bytes:  # noqa: ARG002 - counted at the end
        logprobs = self._take(piece)
        number, item_id = self._next(), self._item_id
        return _framed(DeltaEvent(sequence_number=number, item_id=item_id, delta=piece.text, logprobs=logprobs))

    def closing(
        self,
        index: int,  # noqa: ARG002 - there is one choice
        reason: FinishWord,
        usage: Usage | None,  # noqa: ARG002 - counted at the end
        traces: Traces | UnsetType = UNSET,  # noqa: ARG002 - come at the end
    ) -> bytes:
        self._status = _STATUS[reason]
        text, number = self._output_text(), self._next()
        told = TextEvent(sequence_number=number, item_id=self._item_id, text=text.text, logprobs=text.logprobs)
        part = self._part_event("response.content_part.done", text)
        item = ItemEvent(type="response.output_item.done", sequence_number=self._next(), item=self._message())
        return _framed(told) + _framed(part) + _framed(item)

    def usage(self, ending: Ending) -> bytes:
        response = self._ended(ending)
        kind: EndKind = "response.completed" if self._status == "completed" else "response.incomplete"
        return _framed(ResponseEvent(type=kind, sequence_number=self._next(), response=response))

    def failure(self, error: ApiError) -> bytes:
        failure = ResponseFailure(_CODES.get(error.kind, "server_error"), error.message, error.kind, error.param)
        self._status = "incomplete"
        response = self._reply("failed", [self._message()], error=failure)
        return _framed(ResponseEvent(type="response.failed", sequence_number=self._next(), response=response))

    def _take(self, piece: Piece) -> list[TokenLogprob]:
        """What is told of the piece's tokens."""
        told = [_with_bytes(token) for token in chat_logprobs(piece.tokens, self._table).content]
        self._text.append(piece.text)
        self._logprobs += told
        return told

    def _next(self) -> int:
        self._num_events += 1
        return self._num_events - 1

    def _output_text(self) -> OutputText:
        return OutputText("".join(self._text), self._logprobs)

    def _message(self) -> OutputMessage:
        return OutputMessage(self._item_id, self._status, [self._output_text()])

    def _part_event(self, kind: Any, part: OutputText) -> PartEvent:
        return PartEvent(type=kind, sequence_number=self._next(), item_id=self._item_id, part=part)

    def _ended(self, ending: Ending) -> ResponseReply:
        details = IncompleteDetails("max_output_tokens") if self._status == "incomplete" else None
        usage = _usage(ending.usage)
        message = self._message()
        return self._reply(message.status, [message], usage=usage, incomplete_details=details, prfaas=ending.traces)

    def _reply(self, status: Status, output: list[OutputMessage], **known: Any) -> ResponseReply:
        """What was asked for, with defaults filled in, and what has come of it."""
        body, head = self._body, self.head
        return ResponseReply(
            id=head.request_id,
            created_at=head.created_s,
            model=head.model,
            status=status,
            output=output,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            metadata=body.metadata or {},
            parallel_tool_calls=body.parallel_tool_calls is not False,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            text={"format": body.format_as_sent},
            tools=[tool.as_sent for tool in body.tools or ()],
            tool_choice=body.tool_choice or "auto",
            top_logprobs=body.top_logprobs or 0,
            user=body.user,
            safety_identifier=body.safety_identifier,
            prompt_cache_key=body.prompt_cache_key,
            service_tier="flex" if body.service_tier == "flex" else "default",
            **known,
        )


def _usage(usage: Usage) -> ResponseUsage:
    cached = InputTokensDetails(usage.prompt_tokens_details.cached_tokens)
    return ResponseUsage(usage.prompt_tokens, cached, usage.completion_tokens, usage.total_tokens)


def _with_bytes(token: TokenLogprob) -> TokenLogprob:
    """Here tokens without text have no bytes, where chats have null."""
    tops = [replace(top, bytes=top.bytes or []) for top in token.top_logprobs]
    return replace(token, bytes=token.bytes or [], top_logprobs=tops)


def _framed(event: Event) -> bytes:
    return b"event: " + event.type.encode() + b"\ndata: " + _encode(event) + b"\n\n"

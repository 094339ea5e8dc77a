"""Bodies and stream events of `/v1/responses` as OpenAI's clients read them."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from prfaas.gateway.replies import TokenLogprob, Traces

Status = Literal["in_progress", "completed", "incomplete", "failed"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int
    cache_write_tokens: int = 0
    """Tokens for whose caching a price of its own is asked: none."""


class OutputTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0
    """Told apart from the text: none, since reasoning is part of it."""


class ResponseUsage(msgspec.Struct, frozen=True):
    """What a request is billed by."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    total_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()


class OutputText(msgspec.Struct, frozen=True, tag="output_text", tag_field="type"):
    text: str
    logprobs: list[TokenLogprob]
    annotations: tuple[()] = ()


class OutputMessage(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


FailureCode = Literal["server_error", "invalid_prompt", "rate_limit_exceeded"]
EndKind = Literal["response.completed", "response.incomplete"]


class ResponseFailure(msgspec.Struct, frozen=True):
    """Why a response failed, in OpenAI's words."""

    code: FailureCode
    message: str
    type: str
    param: str | None


class IncompleteDetails(msgspec.Struct, frozen=True):
    reason: Literal["max_output_tokens"]


class ResponseReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer, and what a stream's first and last events carry: what was asked for, and what came."""

    id: str
    created_at: int
    model: str
    status: Status
    output: list[OutputMessage]
    usage: ResponseUsage | None = None
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float
    top_p: float
    text: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: Literal["none", "auto"]
    top_logprobs: int
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    service_tier: Literal["default", "flex"]
    object: Literal["response"] = "response"
    background: Literal[False] = False
    previous_response_id: None = None
    store: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"
    prfaas: Traces | UnsetType = UNSET


class ResponseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The response as a whole, at its beginning and its end."""

    type: Literal[
        "response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed"
    ]
    sequence_number: int
    response: ResponseReply


class ItemEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The one message of a response begins or ends."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    sequence_number: int
    item: OutputMessage
    output_index: int = 0


class PartEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The text of the message begins or ends."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    sequence_number: int
    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class DeltaEvent(msgspec.Struct, frozen=True, kw_only=True):
    """More of the text."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    sequence_number: int
    item_id: str
    delta: str
    logprobs: list[TokenLogprob]
    output_index: int = 0
    content_index: int = 0


class TextEvent(msgspec.Struct, frozen=True, kw_only=True):
    """All of the text."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    sequence_number: int
    item_id: str
    text: str
    logprobs: list[TokenLogprob]
    output_index: int = 0
    content_index: int = 0


Event = ResponseEvent | ItemEvent | PartEvent | DeltaEvent | TextEvent

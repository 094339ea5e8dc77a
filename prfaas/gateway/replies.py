"""Bodies and stream chunks as OpenAI's clients read them, plus `prfaas`: what happened to a request on its way."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

FinishWord = Literal["stop", "length"]


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """What a request is billed by."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class PrefillTrace(msgspec.Struct, frozen=True):
    cluster: str
    instance: str
    tokens_computed: int
    tokens_reused: int
    tokens_fetched: int
    """Of those reused: another instance's cache had sent their KV for this request."""
    fetched_from: str | None


class KvTrace(msgspec.Struct, frozen=True):
    """What crossed; the KV of the prompt's first `tokens_held` tokens did not, since the decode instance had it."""

    bytes_raw: int
    bytes_wire: int
    bytes_again: int
    """That crossed twice, because a connection was lost or a frame arrived corrupt."""
    codec: str
    transfer_ms: float
    tokens_held: int
    tokens_verified: int
    """Of a fallback: tokens that had crossed, so that they were not computed again."""


class DecodeTrace(msgspec.Struct, frozen=True):
    cluster: str
    instance: str


class Trace(msgspec.Struct, frozen=True):
    """The account of one request. What only the instances know is null where their account did not come."""

    request_id: str
    prefill: PrefillTrace | None
    kv: KvTrace | None
    decode: DecodeTrace
    queue_ms: float | None
    prefill_ms: float | None
    ttft_ms: float | None
    fallback: str | None
    placement: str
    token_ids: list[int]


Traces = Trace | list[Trace]
"""Of one choice, or of several in the order of their indices."""


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token of a chat's answer; `bytes` is null for tokens without text, such as EOS."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(msgspec.Struct, frozen=True):
    """One entry per token in each list; `text_offset` counts characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class ChatMessage(msgspec.Struct, frozen=True):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    message: ChatMessage
    finish_reason: FinishWord
    index: int = 0
    logprobs: ChatLogprobs | None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    prfaas: Traces | UnsetType = UNSET


class ChatDelta(msgspec.Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True):
    delta: ChatDelta
    finish_reason: FinishWord | None = None
    index: int = 0
    logprobs: ChatLogprobs | None = None


class ChatChunk(msgspec.Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    prfaas: Traces | UnsetType = UNSET


class TextChoice(msgspec.Struct, frozen=True):
    text: str
    finish_reason: FinishWord | None = None
    index: int = 0
    logprobs: TextLogprobs | None = None


class TextCompletion(msgspec.Struct, frozen=True):
    """A whole text completion, and each chunk of a streamed one."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"
    prfaas: Traces | UnsetType = UNSET


class ModelCard(msgspec.Struct, frozen=True):
    id: str
    created: int
    owned_by: str = "prfaas"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    data: list[ModelCard]
    object: Literal["list"] = "list"

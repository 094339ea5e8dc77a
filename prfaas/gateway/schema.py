"""Request bodies of the OpenAI API, strictly: an unknown field or a wrong type is refused by name, never dropped."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from prfaas.core.logprobs import MAX_TOP_LOGPROBS
from prfaas.gateway.body import OnlyFalse, OnlyTrue, TokenIds
from prfaas.gateway.generation_body import GenerationBody
from prfaas.gateway.messages import ChatMessage, Tools
from prfaas.gateway.neutral_fields import NeutralChatFields
from prfaas.gateway.sampling_fields import MAX_TOKENS

DEFAULT_COMPLETION_TOKENS = 16
MAX_MESSAGES = 16_384
MAX_CHOICES = 128
"""Of one request with a list of prompts: prompts times n."""

Texts = Annotated[list[str], Field(max_length=MAX_CHOICES, fail_fast=True)]
ManyTokenIds = Annotated[list[TokenIds], Field(max_length=MAX_CHOICES, fail_fast=True)]


def _prompt_kind(value: Any) -> str:
    if not isinstance(value, list):
        return "<text>"
    first = value[0] if value else None
    return "<texts>" if isinstance(first, str) else "<many>" if isinstance(first, list) else "<ids>"


Prompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[TokenIds, Tag("<ids>")]
    | Annotated[Texts, Tag("<texts>")]
    | Annotated[ManyTokenIds, Tag("<many>")],
    Discriminator(_prompt_kind),
]


class ChatBody(GenerationBody, NeutralChatFields):
    """`POST /v1/chat/completions`"""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Tools | None = None
    tool_choice: Literal["none", "auto"] | None = Field(default=None, description="none: the model sees no tools.")
    parallel_tool_calls: bool | None = Field(default=None, description="Accepted; the chat template decides.")
    chat_template_kwargs: dict[str, Any] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1, fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _chat_fields_agree(self) -> Self:
        if None not in (both := (self.max_tokens, self.max_completion_tokens)) and both[0] != both[1]:
            raise ValueError("max_tokens and max_completion_tokens mean the same and differ; give one of them")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs: true")
        return self

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens to generate at most; None: `router.default_max_tokens`, or as many as fit."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell with each one; None: no logprobs at all."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def template_tools(self) -> list[dict[str, Any]] | None:
        """None where the model shall know of no tools."""
        return [tool.for_template() for tool in self.tools] if self.tools and self.tool_choice != "none" else None


class CompletionBody(GenerationBody):
    """`POST /v1/completions`"""

    prompt: Prompt
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    echo: OnlyFalse | None = Field(default=None, description="Prompts are not sent back.")
    add_special_tokens: OnlyTrue | None = Field(default=None, description="Token ids are taken as they are.")
    suffix: Literal[""] | None = Field(default=None, description="Nothing is inserted in the middle of a text.")

    @model_validator(mode="after")
    def _so_many_choices(self) -> Self:
        if (choices := len(self.prompts) * self.choices_per_prompt) > MAX_CHOICES:
            raise ValueError(f"{len(self.prompts)} prompts with n make {choices} choices; at most {MAX_CHOICES} fit")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or more, each of them text or token ids."""
        several = _prompt_kind(self.prompt) in ("<texts>", "<many>")
        return list(self.prompt) if several else [self.prompt]  # type: ignore[arg-type, list-item] # the kind tells

    @property
    def wanted_tokens(self) -> int:
        """How many tokens to generate at most."""
        return DEFAULT_COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell with each one; None: no logprobs at all."""
        return self.logprobs

"""The request body of `POST /v1/responses`, strictly. Nothing is stored: nothing earlier can be continued by name."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from prfaas.core.logprobs import MAX_TOP_LOGPROBS
from prfaas.core.request import Grammar
from prfaas.gateway.body import Body, OnlyFalse, string_or_list
from prfaas.gateway.bookkeeping_fields import BookkeepingFields
from prfaas.gateway.chat_template import Message
from prfaas.gateway.messages import MAX_NAME_CHARS, MAX_TOOLS
from prfaas.gateway.response_format import TextFormatChoice
from prfaas.gateway.responses_items import Empty, Item, turns_of
from prfaas.gateway.sampling_fields import MAX_TOKENS, SamplingFields

MAX_ITEMS = 16_384
LOGPROBS = "message.output_text.logprobs"

Input = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True), Tag("<list>")],
    Discriminator(string_or_list),
]


class TextConfig(Body):
    """What the answer's text must be."""

    format: TextFormatChoice | None = None
    verbosity: None = None


class FunctionTool(Body):
    """A function that the model may call; `strict` is accepted, but calls are not constrained."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: None = None
    defer_loading: OnlyFalse | None = None
    output_schema: None = None

    def for_template(self) -> dict[str, Any]:
        """As chats have it, of which templates know."""
        told = self.model_dump(include={"name", "description", "parameters", "strict"}, exclude_unset=True)
        return {"type": self.type, "function": told}

    @property
    def as_sent(self) -> dict[str, Any]:
        """What the answer repeats."""
        return self.model_dump(exclude_unset=True)


class NeutralReasoning(Body):
    """Reasoning is part of the text, and as long as the model likes."""

    effort: None = None
    summary: None = None
    generate_summary: None = None
    context: None = None
    mode: None = None


class ResponsesStreamOptions(Body):
    """How a stream is sent."""

    include_obfuscation: OnlyFalse | None = None


class ResponsesBody(SamplingFields, BookkeepingFields):
    """`POST /v1/responses`"""

    input: Input
    instructions: str | None = Field(default=None, description="The first turn, of the system.")
    max_output_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    text: TextConfig | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto"] | None = Field(default=None, description="none: the model sees no tools.")
    parallel_tool_calls: bool | None = Field(default=None, description="Accepted; the chat template decides.")
    chat_template_kwargs: dict[str, Any] | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=1, fail_fast=True)] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    stream_options: ResponsesStreamOptions | None = None
    truncation: Literal["disabled"] | None = Field(default=None, description="Nothing of an input is left out.")
    background: OnlyFalse | None = None
    reasoning: NeutralReasoning | None = None
    context_management: Empty | None = None
    access_programs: None = None
    background_options: None = None
    conversation: None = None
    image: None = None
    max_tool_calls: None = Field(default=None, description="Of tools that the server runs: it has none.")
    previous_response_id: None = Field(default=None, description="Nothing is stored: send the earlier turns as input.")
    prompt: None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.top_logprobs and not self.include:
            raise ValueError(f"top_logprobs is only allowed with include: [{LOGPROBS!r}]")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        return self

    @property
    def turns(self) -> list[Message]:
        """What a chat template gets."""
        first = [] if self.instructions is None else [Message(role="system", content=self.instructions)]
        if isinstance(self.input, str):
            return [*first, Message(role="user", content=self.input)]
        return first + turns_of(self.input)

    @property
    def template_tools(self) -> list[dict[str, Any]] | None:
        """None where the model shall know of no tools."""
        return [tool.for_template() for tool in self.tools] if self.tools and self.tool_choice != "none" else None

    @property
    def format_as_sent(self) -> dict[str, Any]:
        """What the answer repeats."""
        demand = self.text.format if self.text else None
        return demand.model_dump(by_alias=True, exclude_unset=True) if demand else {"type": "text"}

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens to generate at most; None: `router.default_max_tokens`, or as many as fit."""
        return self.max_output_tokens

    @property
    def num_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell with each one; None: no logprobs at all."""
        return (self.top_logprobs or 0) if self.include else None

    @property
    def choices_per_prompt(self) -> int:
        return 1

    @property
    def include_usage(self) -> bool:
        """A stream's last event has it, always."""
        return True

    @property
    def usage_on_every_chunk(self) -> bool:
        return False

    @property
    def grammar_field(self) -> str:
        return "text.format"

    def grammar(self) -> Grammar | None:
        """What the answer must be."""
        demand = self.text.format if self.text else None
        return demand.grammar() if demand else None

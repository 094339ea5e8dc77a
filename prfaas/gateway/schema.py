"""Request bodies of the OpenAI API, strictly: an unknown field or a wrong type is refused by name, never dropped."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from prfaas.core.request import MAX_SEED, SamplingParams
from prfaas.gateway.chat_template import Message

DEFAULT_COMPLETION_TOKENS = 16
MAX_STOP_STRINGS = 4
MAX_STOP_CHARS = 512
MAX_TOKENS = 2**31 - 1
MAX_MESSAGES = 16_384
MAX_TEXT_PARTS = 1_024


def _is_list(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<string>"


class Body(BaseModel):
    """JSON as the client sent it: "5" is not a number, and misspelt fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextPart(Body):
    """A piece of a message; text is the only kind that this server understands."""

    type: Literal["text"]
    text: str


# The tags choose one branch, so that an error names what is wrong instead of every alternative.
# fail_fast: the report of a list ends at its first fault; a million faults would take a minute and gigabytes to report.
TextParts = Annotated[list[TextPart], Field(max_length=MAX_TEXT_PARTS, fail_fast=True)]
Content = Annotated[Annotated[str, Tag("<string>")] | Annotated[TextParts, Tag("<list>")], Discriminator(_is_list)]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stop = Annotated[
    Annotated[StopString, Tag("<string>")]
    | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS), Tag("<list>")],
    Discriminator(_is_list),
]
TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]
Prompt = Annotated[Annotated[str, Tag("<string>")] | Annotated[TokenIds, Tag("<list>")], Discriminator(_is_list)]


class ChatMessage(Body):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = None

    def for_template(self) -> Message:
        """As chat templates expect it: parts joined, absent fields absent."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        message = Message(role=self.role, content=content)
        if self.name is not None:
            message["name"] = self.name
        return message


class StreamOptions(Body):
    """How a stream is sent."""

    include_usage: bool = False


class GenerationBody(Body):
    """What chat and text completions share; null means the default."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=1, description="Only 1 for now.")
    user: str | None = Field(default=None, description="Accepted as metadata; nothing depends on it.")
    ignore_eos: bool | None = Field(default=None, description="Generate max_tokens tokens, whatever they are.")

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        return self

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int, drawn_seed: int) -> SamplingParams:
        """`drawn_seed` is used where the client named none."""
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=drawn_seed if self.seed is None else self.seed,
            ignore_eos=bool(self.ignore_eos),
        )


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`"""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens mean the same; give one of them")
        return self

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens to generate at most; None: `router.default_max_tokens`, or as many as fit."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionBody(GenerationBody):
    """`POST /v1/completions`"""

    prompt: Prompt

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
            return value[0]  # some clients wrap even a single prompt
        if isinstance(value, list) and value and isinstance(value[0], str | list):
            raise ValueError("a list of prompts is not supported yet; send one request per prompt")
        return value

    @property
    def wanted_tokens(self) -> int:
        """How many tokens to generate at most."""
        return DEFAULT_COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

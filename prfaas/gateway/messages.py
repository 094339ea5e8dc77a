"""The turns of a chat and the tools it may use, as clients send them and as chat templates expect them."""

from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from prfaas.gateway.body import Body, string_or_list
from prfaas.gateway.chat_template import Message

MAX_TEXT_PARTS = 1_024
MAX_TOOLS = 128
MAX_TOOL_CALLS = 128
MAX_NAME_CHARS = 256


class TextPart(Body):
    """A piece of a message; text is the only kind that this server understands."""

    type: Literal["text"]
    text: str


TextParts = Annotated[list[TextPart], Field(max_length=MAX_TEXT_PARTS, fail_fast=True)]
Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[TextParts, Tag("<list>")], Discriminator(string_or_list)
]


def _text(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class PlainMessage(Body):
    """A turn that is only text."""

    # An unknown role ends up here, so the message about it names them all.
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content
    name: str | None = None

    def for_template(self) -> Message:
        """As chat templates expect it: parts joined, absent fields absent."""
        message = Message(role=self.role, content=_text(self.content))
        if self.name is not None:
            message["name"] = self.name
        return message


class CalledFunction(Body):
    """What an assistant called, with its arguments as JSON."""

    name: str
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _is_an_object(cls, value: str) -> str:
        try:
            _arguments(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"the arguments are not a JSON object: {error}") from None
        return value

    def called_as(self, call_id: str) -> dict[str, Any]:
        """Templates write arguments as JSON themselves, so they get them parsed."""
        arguments = _arguments(self.arguments)
        return {"id": call_id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


def _arguments(text: str) -> dict[str, Any]:
    """No arguments at all are none. Unlike json.loads, lets neither NaN nor half a surrogate pair into a prompt."""
    return _decode_arguments(text or "{}")


_decode_arguments = msgspec.json.Decoder(dict[str, Any]).decode


class ToolCall(Body):
    """A call that an assistant made in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(default=None, description="Left over from a stream; nothing depends on it.")

    def for_template(self) -> dict[str, Any]:
        """As an assistant's message carries it."""
        return self.function.called_as(self.id)


class AssistantMessage(Body):
    """An earlier answer. Fields that OpenAI's client writes with null may be sent back."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOL_CALLS, fail_fast=True)] | None = None
    reasoning_content: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("an assistant's message needs content or tool_calls")
        return self

    def for_template(self) -> Message:
        """Without text the content is empty: templates would write a null as a word."""
        message = Message(role=self.role, content="" if self.content is None else _text(self.content))
        if self.name is not None:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        return message


class ToolMessage(Body):
    """What a called tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None

    def for_template(self) -> Message:
        """Parts joined, absent fields absent."""
        message = Message(role=self.role, content=_text(self.content), tool_call_id=self.tool_call_id)
        if self.name is not None:
            message["name"] = self.name
        return message


def _role(value: Any) -> str:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    return f"<{role}>" if role in ("assistant", "tool") else "<plain>"


ChatMessage = Annotated[
    Annotated[PlainMessage, Tag("<plain>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(_role),
]


class FunctionDefinition(Body):
    """A function that the model may call; `strict` is accepted, but calls are not constrained."""

    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """What a chat template is told of a tool."""

    type: Literal["function"]
    function: FunctionDefinition

    def for_template(self) -> dict[str, Any]:
        """As the client sent it."""
        return self.model_dump(exclude_unset=True)


Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)]

"""The items of a `/v1/responses` input, and the turns of a chat that they come to. Knows of nothing earlier."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from prfaas.gateway.body import Body, string_or_list
from prfaas.gateway.chat_template import Message
from prfaas.gateway.messages import MAX_TEXT_PARTS, CalledFunction

Status = Literal["in_progress", "completed", "incomplete"]
Empty = Annotated[list[Any], Field(max_length=0)]


class InputText(Body):
    """A piece of what somebody other than the model said."""

    type: Literal["input_text"]
    text: str


class EarlierText(Body):
    """A piece of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Empty | None = None
    logprobs: list[Any] | None = Field(default=None, description="As they were told; nothing depends on them.")


Said = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[InputText], Field(max_length=MAX_TEXT_PARTS, fail_fast=True), Tag("<list>")],
    Discriminator(string_or_list),
]
Answered = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[EarlierText], Field(max_length=MAX_TEXT_PARTS, fail_fast=True), Tag("<list>")],
    Discriminator(string_or_list),
]


class InputItem(Body):
    """What all items may carry: their own name and state, on which nothing depends."""

    id: str | None = None
    status: Status | None = None


class MessageItem(InputItem):
    """What a user, a developer or the system said."""

    # An unknown type or role ends up here, so the message about it names them all.
    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Said

    def join(self, turns: list[Message]) -> None:
        """Adds itself to the turns so far."""
        turns.append(Message(role=self.role, content=_text(self.content)))


class AnswerItem(InputItem):
    """What the model answered earlier."""

    type: Literal["message"] = "message"
    role: Literal["assistant"]
    content: Answered
    phase: None = None

    def join(self, turns: list[Message]) -> None:
        """Adds itself to the turns so far."""
        turns.append(Message(role=self.role, content=_text(self.content)))


class FunctionCallItem(InputItem, CalledFunction):
    """A function that the model called earlier."""

    type: Literal["function_call"]
    call_id: str
    namespace: None = None
    caller: None = None

    def join(self, turns: list[Message]) -> None:
        """Chats have what was said and called at once in one turn, so it joins the model's last."""
        if not turns or turns[-1]["role"] != "assistant":
            turns.append(Message(role="assistant", content=""))
        turns[-1].setdefault("tool_calls", []).append(self.called_as(self.call_id))


class FunctionOutputItem(InputItem):
    """What a called function returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: Said
    caller: None = None

    def join(self, turns: list[Message]) -> None:
        """Adds itself to the turns so far."""
        turns.append(Message(role="tool", content=_text(self.output), tool_call_id=self.call_id))


def _kind(value: Any) -> str:
    def field(name: str) -> Any:
        return value.get(name) if isinstance(value, dict) else getattr(value, name, None)

    kind = field("type")
    if kind in ("function_call", "function_call_output"):
        return f"<{kind}>"
    return "<answer>" if kind in (None, "message") and field("role") == "assistant" else "<message>"


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[AnswerItem, Tag("<answer>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionOutputItem, Tag("<function_call_output>")],
    Discriminator(_kind),
]


def turns_of(items: Iterable[Item]) -> list[Message]:
    """What a chat template gets."""
    turns: list[Message] = []
    for item in items:
        item.join(turns)
    return turns


def _text(content: str | list[InputText] | list[EarlierText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)

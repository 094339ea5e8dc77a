"""A checkpoint's chat template, rendered as Hugging Face renders it: sandboxed jinja. Knows no tokens."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from jinja2 import Template, TemplateError
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from prfaas.core.errors import ModelError, RequestError

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_TEMPLATE_FAULTS = (
    TemplateError,
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a template can do wrong with messages that it did not expect."""


_OURS = ("messages", "tools", "documents", "add_generation_prompt")


class Message(TypedDict, total=False):
    """One turn of a chat, as templates expect it."""

    role: str
    content: str
    name: str
    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str


class ChatTemplate:
    """Turns messages into the text that the model was trained on."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], tool_source: str | None = None) -> None:
        """`tool_source` is used instead of `source` where there are tools.

        Raises ModelError for a template that jinja cannot parse.
        """
        self._plain = _Source(source)
        self._with_tools = self._plain if tool_source is None else _Source(tool_source)
        self._special_tokens = dict(special_tokens)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt, up to where the assistant's answer begins; `variables` are the client's own.

        Raises RequestError for what the template refuses, or would not look at.
        """
        source = self._with_tools if tools else self._plain
        self._check(source, tools, variables or {})
        try:
            # Templates ask whether `tools` is none, which an undefined name is not.
            return source.template.render(
                {
                    **self._special_tokens,
                    **(variables or {}),
                    "messages": messages,
                    "tools": tools,
                    "documents": None,
                    "add_generation_prompt": True,
                }
            )
        except _TEMPLATE_FAULTS as error:
            raise RequestError(f"the model's chat template refuses these messages: {error}") from error

    def _check(
        self, source: "_Source", tools: Sequence[Mapping[str, Any]] | None, variables: Mapping[str, Any]
    ) -> None:
        if tools and "tools" not in source.variables:
            raise RequestError("tools: this model's chat template has no place for tools; send none")
        for name in variables:
            if name in _OURS or name in self._special_tokens:
                raise RequestError(f"chat_template_kwargs: {name} is set by the server")
            if name not in source.variables:
                raise RequestError(f"chat_template_kwargs: this model's chat template does not use {name}")


class _Source:
    """One template, and the names that it asks its caller for."""

    def __init__(self, source: str) -> None:
        environment = _environment()
        try:
            self.template: Template = environment.from_string(source)
            # Every rendering copies them, and the chain of mappings that jinja makes takes longer than a short chat.
            self.template.globals = dict(self.template.globals)
            self.variables = find_undeclared_variables(environment.parse(source))
        except TemplateError as error:
            raise ModelError(f"the chat template is not valid jinja: {error}") from error


def load_chat_template(path: Path) -> ChatTemplate | None:
    """The template in the model directory `path`, None if it has none. Raises ModelError for one that is broken."""
    config = _read_config(path / "tokenizer_config.json")
    file = path / "chat_template.jinja"
    try:
        named = _named(config.get("chat_template"))
        if file.exists():
            named = {"default": file.read_text(encoding="utf-8")}
        tokens = {name: _token(config[name]) for name in SPECIAL_TOKENS if config.get(name) is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: the chat template or a special token is malformed: {error!r}") from error
    return ChatTemplate(named["default"], tokens, named.get("tool_use")) if "default" in named else None


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    # jinja's own tojson escapes for HTML, which is not what models were trained on.
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here the words simply stay."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now(UTC).astimezone().strftime(form)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    return config


def _named(template: Any) -> dict[str, str]:
    """Some checkpoints name several templates: "default", and perhaps "tool_use" for chats with tools."""
    if template is None:
        return {}
    if isinstance(template, list):
        return {str(entry["name"]): str(entry["template"]) for entry in template}
    return {"default": str(template)}


def _token(value: Any) -> str:
    return str(value["content"] if isinstance(value, dict) else value)

"""What a client may demand of an answer's form, and the grammar that it comes to."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from prfaas.core.request import MAX_GRAMMAR_BYTES, Grammar, GrammarKind
from prfaas.gateway.body import Body, OnlyTrue


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    if (size := len(_dump(schema).encode())) > MAX_GRAMMAR_BYTES:
        raise ValueError(f"the schema has {size} bytes; at most {MAX_GRAMMAR_BYTES} are compiled")
    return schema


def _dump(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


class TextFormat(Body):
    """No demand."""

    type: Literal["text"]

    def grammar(self) -> Grammar | None:
        return None


class JsonObjectFormat(Body):
    """Some JSON object."""

    type: Literal["json_object"]

    def grammar(self) -> Grammar | None:
        return Grammar(GrammarKind.JSON_OBJECT)


class NamedSchema(Body):
    """A JSON schema; it is enforced whether `strict` or not."""

    name: str = Field(min_length=1, max_length=256)
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None

    _size = field_validator("json_schema")(_checked)


class JsonSchemaFormat(Body):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def grammar(self) -> Grammar | None:
        return Grammar(GrammarKind.JSON_SCHEMA, _dump(self.json_schema.json_schema))


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind in ("text", "json_object") else "<json_schema>"


class FlatSchemaFormat(Body):
    """The same in the words of `/v1/responses`."""

    # An unknown type ends up here, so the message about it names them all.
    type: Literal["text", "json_object", "json_schema"]
    name: str = Field(min_length=1, max_length=256)
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None

    _size = field_validator("json_schema")(_checked)

    def grammar(self) -> Grammar | None:
        return Grammar(GrammarKind.JSON_SCHEMA, _dump(self.json_schema))


class _AnyFormat(JsonSchemaFormat):
    # An unknown type ends up here, so the message about it names them all.
    type: Literal["text", "json_object", "json_schema"]  # type: ignore[assignment] # wider than its parent's on purpose


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[_AnyFormat, Tag("<json_schema>")],
    Discriminator(_kind),
]


TextFormatChoice = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[FlatSchemaFormat, Tag("<json_schema>")],
    Discriminator(_kind),
]
"""`text.format` of `/v1/responses`."""


class StructuredOutputs(Body):
    """vLLM's way to say the same, and more: exactly one field is set."""

    json_schema: dict[str, Any] | None = Field(default=None, alias="json")
    json_object: OnlyTrue | None = None
    regex: Annotated[str, Field(min_length=1, max_length=MAX_GRAMMAR_BYTES)] | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=1024)] | None = None

    _size = field_validator("json_schema")(lambda schema: schema if schema is None else _checked(schema))

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.json_schema, self.json_object, self.regex, self.choice)) != 1:
            raise ValueError("give exactly one of json, json_object, regex and choice")
        return self

    def grammar(self) -> Grammar:
        """Raises RequestError for a list of choices that is too long."""
        if self.json_schema is not None:
            return Grammar(GrammarKind.JSON_SCHEMA, _dump(self.json_schema))
        if self.json_object:
            return Grammar(GrammarKind.JSON_OBJECT)
        return Grammar(GrammarKind.REGEX, self.regex or "|".join(re.escape(choice) for choice in self.choice or ()))

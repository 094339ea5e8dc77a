"""Large bodies are refused before much is made of them, unless it is their text that is large."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from prfaas.gateway import body_limits, parse
from prfaas.gateway.errors import ApiError
from prfaas.gateway.schema import ChatBody, CompletionBody

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
MANY = {f"k{i}": 1 for i in range(200_000)}


def refusal(body: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        body_limits.check(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert refused.value.status == 400
    return refused.value


@pytest.mark.parametrize("place", [lambda keys: keys, lambda keys: {"metadata": keys}, lambda keys: {"tools": [keys]}])
def test_fields_other_than_the_text_are_not_large(place: Callable[[dict[str, int]], dict[str, Any]]) -> None:
    assert "input and instructions has" in refusal(CHAT | place(MANY)).message


def test_a_second_field_of_the_same_name_hides_nothing() -> None:
    small = json.dumps(CHAT["messages"])
    body = f'{{"messages": {json.dumps(["x"] * 300_000)}, "messages": {small}}}'.encode()
    assert "input and instructions has" in refusal(body).message


def test_messages_are_not_made_of_keys() -> None:
    assert "keys and strings" in refusal(CHAT | {"messages": [MANY]}).message


def test_no_list_is_longer_than_any_context() -> None:
    ids = b"1," * (body_limits.MAX_COMMAS + 1)
    assert "commas" in refusal(b'{"prompt": [' + ids + b"1]}").message


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a": NaN, "b": "' + b"x" * 70_000 + b'"}', b'{"\xff": 1}' * 9000])
def test_a_large_body_that_is_no_json(body: bytes) -> None:
    assert "not valid JSON" in refusal(body).message


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (ChatBody, {"messages": [{"role": "user", "content": 'say "a, b" \\ ' * 300_000}]}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"}] * 16_384}),
        (CompletionBody, {"prompt": list(range(200_000))}),
        (CompletionBody, {"prompt": ["a text, " * 20_000] * 100}),
    ],
)
def test_large_texts_and_token_ids_are_read(model: type[Any], fields: dict[str, Any]) -> None:
    body = model.model_validate_json(json.dumps({"model": "tiny", **fields}))
    assert parse.parse(model, json.dumps({"model": "tiny", **fields}).encode()) == body


def test_a_thousand_faults_are_counted_and_not_listed() -> None:
    body = json.dumps(CHAT | {f"k{i}": 1 for i in range(5000)}).encode()
    with pytest.raises(ApiError) as refused:
        parse.parse(ChatBody, body)
    assert refused.value.message == "the body has 5000 unknown parameters or values that are not valid"
    assert refused.value.param is None

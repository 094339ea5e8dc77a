"""Bodies that readers of JSON disagree on, or that are made to break one: 4xx in OpenAI's form, or an answer."""

import json
from typing import Any

import pytest

from tests.gateway.running_router import RunningRouter
from tests.gateway.test_bad_requests import CHAT, TEXT, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK: dict[str, Any] = {"model": "tiny", "input": "hi"}
ENDPOINTS = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT), ("/v1/responses", ASK)]
PATHS = pytest.mark.parametrize(("path", "base"), ENDPOINTS)


def with_field(base: dict[str, Any], field: bytes) -> bytes:
    """`base` with one more field, written as it is."""
    return json.dumps(base).encode()[:-1] + b", " + field + b"}"


@PATHS
@pytest.mark.parametrize(
    "field",
    [
        b'"model": "tiny"',
        b'"seed": 1, "seed": 1',
        b'"seed": 1, "s\\u0065ed": 2',
        b'"metadata": {"a": "1", "a": "2"}',
        b'"logit_bias": {"5": 1, "5": 2}',
    ],
)
async def test_a_name_that_comes_twice(
    shared_router: RunningRouter, path: str, base: dict[str, Any], field: bytes
) -> None:
    error = error_of(await shared_router.http.post(path, content=with_field(base, field)), 400)
    assert "duplicate key" in error["message"]
    assert "every name may occur once" in error["message"]


@PATHS
@pytest.mark.parametrize(
    "field",
    [
        b'"user": "\xff"',
        b'"user": "\xed\xa0\x80"',  # half a pair, as no UTF-8 may have it
        b'"user": "\\ud83d"',
        b'"user": "\\udc00\\ud800"',
        b'"\\ud83d": 1',
        b'"user": "\0"',
        b'"user": "a\nb"',
        b'"seed": 1' + b"0" * 5000,
        b'"seed": 1e400',
        b'"temperature": -1e999',
        b'"seed": 01',
        b'"seed": 0x1',
        b'"seed": 1,',
        b'"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'"tools": ' + b"[" * 5000,
    ],
)
async def test_what_is_no_json_or_no_value(
    shared_router: RunningRouter, path: str, base: dict[str, Any], field: bytes
) -> None:
    error_of(await shared_router.http.post(path, content=with_field(base, field)), 400)


@PATHS
@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])
async def test_marks_before_a_body(shared_router: RunningRouter, path: str, base: dict[str, Any], mark: bytes) -> None:
    error_of(await shared_router.http.post(path, content=mark + json.dumps(base).encode()), 400)


@PATHS
async def test_a_body_in_utf_16(shared_router: RunningRouter, path: str, base: dict[str, Any]) -> None:
    error_of(await shared_router.http.post(path, content=json.dumps(base).encode("utf-16")), 400)


DEEP: Any = {"type": "integer"}
for _ in range(150):
    DEEP = {"type": "object", "properties": {"a": DEEP}}

HARD: list[dict[str, Any]] = [
    {"stop": ["\0"]},
    {"user": "\0"},
    {"cache_salt": "\0"},
    {"cache_salt": "💥" * 256},
    {"metadata": {"\0": "\0"}},
    {"seed": -(2**63)},
    {"temperature": 5e-324},
    {"top_p": 5e-324},
    {"min_p": 1},
    {"logit_bias": {"0": -100, "7": 100.0}},
    {"repetition_penalty": 0.01},
]


@PATHS
@pytest.mark.parametrize("field", HARD)
async def test_odd_values_that_are_values(
    shared_router: RunningRouter, path: str, base: dict[str, Any], field: dict[str, Any]
) -> None:
    if not shared_router.fakes:
        await shared_router.add()
    response = await shared_router.http.post(path, json=base | field)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("schema", [DEEP, {"const": "\0"}, {"enum": ["💥"]}, {"pattern": "(" * 3000}, {"$ref": "#"}])
async def test_schemas_that_are_hard_to_read(shared_router: RunningRouter, schema: Any) -> None:
    if not shared_router.fakes:
        await shared_router.add()
    body = ASK | {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}
    response = await shared_router.http.post("/v1/responses", json=body)
    assert response.status_code in (200, 400), response.text


@PATHS
async def test_texts_may_have_any_character(shared_router: RunningRouter, path: str, base: dict[str, Any]) -> None:
    fake = shared_router.fakes[0] if shared_router.fakes else await shared_router.add()
    text = "\0 \x7f \u2028 \ufeff \ufffe 💥 <|im_end|>"
    changed = {"messages": [{"role": "user", "content": text}]} if "messages" in base else {list(base)[1]: text}
    response = await shared_router.http.post(path, json=base | changed)
    assert response.status_code == 200, response.text
    prompt = shared_router.tokenizer.decode(list(fake.calls[-1].prompt_token_ids), skip_special_tokens=False)
    assert text in prompt

"""`response_format` and `structured_outputs`: what reaches the instance, and what is refused before one hears of it."""

import json
from typing import Any

import pytest

from tests.gateway.running_router import RunningRouter
from tests.gateway.test_bad_requests import CHAT, TEXT, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = {"type": "object", "properties": {"ä": {"type": "integer"}}, "required": ["ä"], "additionalProperties": False}
WRITTEN = '{"type":"object","properties":{"ä":{"type":"integer"}},"required":["ä"],"additionalProperties":false}'


def demand(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


async def grammar_of(router: RunningRouter, path: str = "/v1/chat/completions", **body: Any) -> tuple[str, str] | None:
    fake = router.fakes[0] if router.fakes else await router.add()
    base = CHAT if path == "/v1/chat/completions" else TEXT
    response = await router.http.post(path, json=base | body)
    assert response.status_code == 200, response.text
    sampling = fake.calls[-1].sampling
    return (sampling.grammar.kind, sampling.grammar.text) if sampling.HasField("grammar") else None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"response_format": demand(SCHEMA)}, ("json_schema", WRITTEN)),
        ({"response_format": demand(SCHEMA, strict=False, description="x")}, ("json_schema", WRITTEN)),
        ({"response_format": {"type": "json_object"}}, ("json_object", "")),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": None}, None),
        ({"structured_outputs": {"json": SCHEMA}}, ("json_schema", WRITTEN)),
        ({"structured_outputs": {"json_object": True}}, ("json_object", "")),
        ({"structured_outputs": {"regex": "a|b+"}}, ("regex", "a|b+")),
        ({"structured_outputs": {"choice": ["yes.", "no"]}}, ("regex", "yes\\.|no")),
        ({"structured_outputs": {"choice": ["a #b\n", "ä-&~"]}}, ("regex", "a\\ \\#b\\\n|ä\\-\\&\\~")),
    ],
)
async def test_demands_become_grammars(
    shared_router: RunningRouter, path: str, body: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert await grammar_of(shared_router, path, **body) == expected


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"response_format": demand({"type": "widget"})}, "response_format", "widget"),
        ({"response_format": demand({"type": "integer", "minimum": 2, "maximum": 1})}, "response_format", "nsatisf"),
        ({"response_format": demand({"not": {}})}, "response_format", "not"),
        ({"response_format": demand({"enum": ["x" * 70_000]})}, "response_format.json_schema.schema", "65536"),
        ({"response_format": demand([])}, "response_format.json_schema.schema", "object"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, None, "required"),
        ({"structured_outputs": {"regex": "a["}}, "structured_outputs", "regex"),
        ({"structured_outputs": {"json": {"enum": ["x" * 70_000]}}}, "structured_outputs.json", "65536"),
        ({"structured_outputs": {"choice": ["x" * 70_000]}}, None, "65536"),
        ({"structured_outputs": {}}, "structured_outputs", "exactly one"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "exactly one"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "text"}}, None, "give one"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, None, "ignore_eos"),
        ({"response_format": {"type": "json_object"}, "min_tokens": 2}, None, "min_tokens"),
    ],
)
async def test_what_cannot_be_followed_is_refused_at_once(
    shared_router: RunningRouter, body: dict[str, Any], param: str | None, words: str
) -> None:
    called = sum(len(fake.calls) for fake in shared_router.fakes)
    error = error_of(await shared_router.http.post("/v1/chat/completions", json=CHAT | body), 400)
    assert words in error["message"]
    assert param is None or error["param"] == param
    assert error["code"] == "invalid_request"
    assert sum(len(fake.calls) for fake in shared_router.fakes) == called


async def test_recursion_in_a_schema_has_an_end(shared_router: RunningRouter) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(150):
        schema = {"type": "array", "items": schema}
    error = error_of(
        await shared_router.http.post("/v1/chat/completions", json=CHAT | {"response_format": demand(schema)}), 400
    )
    assert "ecursion" in error["message"]
    assert len(json.dumps(error)) < 1000

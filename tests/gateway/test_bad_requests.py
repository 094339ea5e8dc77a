"""Input that is refused, as raw HTTP: the status, the field that is named, and OpenAI's error form."""

import gzip
import json
from typing import Any

import httpx2
import pytest

from prfaas.gateway import parse
from prfaas.gateway.errors import ApiError
from prfaas.gateway.schema import ChatBody
from tests.gateway.running_router import RunningRouter

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "hi"}


def error_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)


CHAT_FAULTS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"max_tokens": "5"}, "max_tokens", "integer"),
    ({"max_tokens": -1}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 2.5}, "max_tokens", "integer"),
    ({"max_tokens": True}, "max_tokens", "integer"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, None, "mean the same"),
    ({"max_completion_tokens": -3}, "max_completion_tokens", "greater than"),
    ({"temperature": "hot"}, "temperature", "number"),
    ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
    ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
    ({"seed": -(2**63) - 1}, "seed", "greater than"),
    ({"seed": 2**63}, "seed", "less than"),
    ({"n": 17}, "n", "less than or equal to 16"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"top_k": -2}, "top_k", "greater than or equal to -1"),
    ({"top_k": 2**31}, "top_k", "less than"),
    ({"min_p": 1.5}, "min_p", "less than or equal to 1"),
    ({"repetition_penalty": 0}, "repetition_penalty", "greater than"),
    ({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2"),
    ({"frequency_penalty": -3}, "frequency_penalty", "greater than or equal to -2"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100"),
    ({"logit_bias": {"five": 1}}, "logit_bias.five.[key]", "integer"),
    ({"logit_bias": {"100000": 1}}, None, "logit_bias: token id 100000 is outside the vocabulary"),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", "at most 1024"),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", "greater than or equal to 0"),
    ({"stop_token_ids": [100_000]}, None, "stop_token_ids: token id 100000 is outside the vocabulary"),
    ({"stop_token_ids": list(range(257))}, "stop_token_ids", "at most 256"),
    ({"min_tokens": -1}, "min_tokens", "greater than"),
    ({"min_tokens": 6, "max_tokens": 5}, None, "min_tokens is 6"),
    ({"logprobs": 5}, "logprobs", "boolean"),
    ({"top_logprobs": 5}, None, "logprobs: true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"store": True}, "store", "False"),
    ({"store": 0}, "store", "should be a boolean"),
    ({"detokenize": 1}, "detokenize", "should be a boolean"),
    ({"service_tier": "priority"}, "service_tier", "'auto'"),
    ({"metadata": {"a": 1}}, "metadata.a", "string"),
    ({"modalities": ["audio"]}, "modalities[0]", "'text'"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "null"),
    ({"functions": [{"name": "f"}]}, "functions", "at most 0"),
    ({"skip_special_tokens": False}, "skip_special_tokens", "True"),
    ({"length_penalty": 0.5}, "length_penalty", "greater than or equal to 1"),
    ({"use_beam_search": True}, "use_beam_search", "False"),
    ({"guided_json": {}}, "guided_json", "null"),
    ({"best_of": 2}, None, "best_of is 2"),
    ({"modalities": ["text", "text"]}, "modalities", "at most 1"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", "False"),
    ({"n": "1"}, "n", "integer"),
    ({"stop": ["a"] * 17}, "stop", "at most 16"),
    ({"stop": ["a", ""]}, "stop[1]", "at least 1"),
    ({"stop": ""}, "stop", "at least 1"),
    ({"stop": 5}, "stop", "string"),
    ({"stop": "x" * 513}, "stop", "at most 512"),
    ({"stream": "yes"}, "stream", "boolean"),
    ({"stream_options": {"include_usage": True}}, None, "stream: true"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "not a parameter"),
    ({"user": 7}, "user", "string"),
    ({"ignore_eos": 1}, "ignore_eos", "boolean"),
    ({"model": None}, "model", "string"),
    ({"messages": []}, "messages", "at least 1"),
    ({"messages": "hi"}, "messages", "array"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "string"),
    ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role", "'tool'"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "required"),
    ({"messages": [{"role": "assistant"}]}, "messages[0]", "content or tool_calls"),
    ({"messages": ["hi"]}, "messages[0]", "an object"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": []}]}, "messages[0].tool_calls", "not a parameter"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
        "text",
    ),
    ({"messages": [{"role": "user", "content": "x", "audio": {}}]}, "messages[0].audio", "not a parameter"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'function'"),
    ({"tools": [{"type": "function", "function": {"description": "x"}}]}, "tools[0].function.name", "required"),
    ({"tool_choice": "required"}, "tool_choice", "'none' or 'auto'"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "'none' or 'auto'"),
    ({"chat_template_kwargs": {"messages": []}}, None, "messages is set by the server"),
    ({"chat_template_kwargs": {"enable_thinking": True}}, None, "does not use enable_thinking"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
    ({"response_format": "json"}, "response_format", "an object"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
    ({"temprature": 1}, "temprature", "not a parameter"),
]


@pytest.mark.parametrize(("fault", "param", "words"), CHAT_FAULTS)
async def test_a_faulty_chat_request(
    shared_router: RunningRouter, fault: dict[str, Any], param: str | None, words: str
) -> None:
    error = error_of(await shared_router.http.post("/v1/chat/completions", json=CHAT | fault), 400)
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == ("unknown_parameter" if words == "not a parameter" else "invalid_request")


@pytest.mark.parametrize(
    ("fault", "param", "words"),
    [
        ({"prompt": ["a", 1]}, "prompt[1]", "string"),
        ({"prompt": [[1, 2], "a"]}, "prompt[1]", "array"),
        ({"prompt": ["a"] * 129}, "prompt", "at most 128"),
        ({"prompt": ["a"] * 20, "n": 10}, None, "20 prompts with n make 200 choices"),
        ({"prompt": ["a", ""]}, None, "no tokens"),
        ({"prompt": [[1], []]}, None, "no tokens"),
        ({"best_of": 3}, None, "best_of is 3"),
        ({"suffix": "x"}, "suffix", "''"),
        ({"add_special_tokens": False}, "add_special_tokens", "True"),
        ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
        ({"logprobs": True}, "logprobs", "integer"),
        ({"top_logprobs": 2}, "top_logprobs", "not a parameter"),
        ({"tools": []}, "tools", "not a parameter"),
        ({"prompt": [1, "a"]}, "prompt[1]", "integer"),
        ({"prompt": [1, -2]}, "prompt[1]", "greater than or equal to 0"),
        ({"prompt": [1, 100_000]}, None, "outside the vocabulary"),
        ({"prompt": [1.5]}, "prompt[0]", "integer"),
        ({"prompt": ""}, None, "no tokens"),
        ({"prompt": []}, None, "no tokens"),
        ({"prompt": None}, "prompt", "string"),
        ({"max_completion_tokens": 4}, "max_completion_tokens", "not a parameter"),
        ({"echo": True}, "echo", "False"),
    ],
)
async def test_a_faulty_text_request(
    shared_router: RunningRouter, fault: dict[str, Any], param: str | None, words: str
) -> None:
    error = error_of(await shared_router.http.post("/v1/completions", json=TEXT | fault), 400)
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'{"model": "tiny", "prompt": "\xff"}',
        b'{"model": "tiny", "prompt": "\\ud83d"}',
    ],
)
async def test_a_body_that_is_no_json_object(shared_router: RunningRouter, body: bytes) -> None:
    error_of(await shared_router.http.post("/v1/completions", content=body), 400)


async def test_nesting_without_end(shared_router: RunningRouter) -> None:
    error = error_of(await shared_router.http.post("/v1/completions", content=b"[" * 100_000), 400)
    assert "not valid JSON" in error["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_are_none(shared_router: RunningRouter, number: str) -> None:
    body = f'{{"model": "tiny", "prompt": "a", "temperature": {number}}}'
    error_of(await shared_router.http.post("/v1/completions", content=body), 400)


async def test_every_fault_is_in_the_message(shared_router: RunningRouter) -> None:
    error = error_of(await shared_router.http.post("/v1/completions", json={"max_tokens": "5", "foo": 1}), 400)
    for field in ("model is required", "prompt is required", "max_tokens", "foo"):
        assert field in error["message"]


async def test_what_the_chat_template_refuses(shared_router: RunningRouter) -> None:
    body = CHAT | {"messages": [{"role": "developer", "content": "x"}]}
    error = error_of(await shared_router.http.post("/v1/chat/completions", json=body), 400)
    assert "developer messages are unknown here" in error["message"]


@pytest.mark.parametrize("value", ["Remote", "", "far", "local, remote"])
async def test_a_bad_prefill_header(shared_router: RunningRouter, value: str) -> None:
    response = await shared_router.http.post("/v1/completions", json=TEXT, headers={"x-prfaas-prefill": value})
    assert error_of(response, 400)["param"] == "x-prfaas-prefill"


async def test_a_bad_trace_header(shared_router: RunningRouter) -> None:
    response = await shared_router.http.post("/v1/completions", json=TEXT, headers={"x-prfaas-trace": "yes"})
    assert error_of(response, 400)["param"] == "x-prfaas-trace"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/embeddings", "/v1/completions/", "/v2/completions", "/redoc"])
async def test_unknown_routes(shared_router: RunningRouter, path: str) -> None:
    error = error_of(await shared_router.http.get(path), 404)
    assert error["type"] == "invalid_request_error"
    assert path in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/models", "GET"), ("POST", "/health", "GET")],
)
async def test_wrong_methods(shared_router: RunningRouter, method: str, path: str, allow: str) -> None:
    response = await shared_router.http.request(method, path)
    error = error_of(response, 405)
    assert method in error["message"]
    assert response.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_load_balancers_may_ask_with_head(shared_router: RunningRouter, path: str) -> None:
    assert (await shared_router.http.head(path)).status_code in (200, 503)


async def test_a_million_faults_are_reported_as_the_first() -> None:
    body = b'{"model":"tiny","messages":[' + b"{}," * 200_000 + b"{}]}"
    with pytest.raises(ApiError, match=r"messages\[0\]\.role is required; messages\[0\]\.content is required$"):
        parse.parse(ChatBody, body)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br"])
async def test_a_compressed_body(shared_router: RunningRouter, encoding: str) -> None:
    body = gzip.compress(json.dumps(TEXT).encode())
    response = await shared_router.http.post("/v1/completions", content=body, headers={"content-encoding": encoding})
    error = error_of(response, 415)
    assert encoding in error["message"]
    assert error["param"] == "content-encoding"


async def test_a_body_that_says_it_is_too_large(shared_router: RunningRouter) -> None:
    limit_bytes = int(shared_router.config.router.max_body_mib * 2**20)
    body = json.dumps(TEXT | {"prompt": "x" * limit_bytes})
    error = error_of(await shared_router.http.post("/v1/completions", content=body), 413)
    assert str(limit_bytes) in error["message"]

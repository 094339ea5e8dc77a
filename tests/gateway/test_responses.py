"""`/v1/responses` as OpenAI's SDK uses it: texts, streams, answers in a given form, and earlier turns."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from prfaas.core.errors import EngineError, PrfaasError, RequestError
from tests.gateway.fake_instance import Abort, Fail, FakeInstance, Say, Script
from tests.gateway.running_router import RunningRouter, running_router
from tests.gateway.test_bad_requests import error_of
from tests.gateway.test_tools import TEMPLATE

pytestmark = pytest.mark.asyncio(loop_scope="module")

BASE: dict[str, Any] = {"model": "tiny", "input": "hi"}
CALL: dict[str, Any] = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Brünn"}'}
OUTPUT: dict[str, Any] = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
TOOL: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


async def fake_of(router: RunningRouter, script: Script | None = None) -> FakeInstance:
    fake = router.fakes[0] if router.fakes else await router.add()
    fake.script = script
    fake.account = {"tokens_reused": 3}
    return fake


def _create(router: RunningRouter) -> Any:
    """Without the SDK's own types, which know no bodies put together at run time."""
    return router.openai.responses.create


def _fits_the_sdks_types(told: BaseModel) -> None:
    """When it reads answers, the SDK checks nothing."""
    type(told).model_validate(told.model_dump(exclude_unset=True))


async def test_a_whole_response(shared_router: RunningRouter) -> None:
    fake = await fake_of(shared_router)
    response = await _create(shared_router)(
        model="tiny",
        input="hi",
        instructions="be brief",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        metadata={"a": "b"},
        user="me",
        store=False,
    )
    _fits_the_sdks_types(response)
    assert response.output_text == "hello world"
    assert (response.status, response.object, response.error) == ("completed", "response", None)
    assert response.id.startswith("resp-")
    assert (response.metadata, response.user, response.instructions) == ({"a": "b"}, "me", "be brief")
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.5, 0.9, 50)
    assert response.usage
    request = fake.calls[-1]
    assert response.usage.input_tokens == len(request.prompt_token_ids)
    assert response.usage.input_tokens_details.cached_tokens == 3
    assert response.usage.output_tokens == len(shared_router.tokenizer.encode("hello world").ids)
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert (request.sampling.max_tokens, request.sampling.temperature, request.sampling.top_p) == (50, 0.5, 0.9)
    assert request.request_id == response.id
    prompt = shared_router.tokenizer.decode(list(request.prompt_token_ids), skip_special_tokens=False)
    assert prompt.startswith("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>")


async def test_an_answer_that_is_cut_off_is_incomplete(shared_router: RunningRouter) -> None:
    await fake_of(shared_router)
    response = await _create(shared_router)(model="tiny", input="hi", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"
    (message,) = response.output
    assert message.type == "message"
    assert message.status == "incomplete"


@pytest.mark.parametrize(("limit", "end"), [(50, "completed"), (2, "incomplete")])
async def test_the_events_of_a_stream(shared_router: RunningRouter, limit: int, end: str) -> None:
    await fake_of(shared_router)
    create = _create(shared_router)
    whole = await create(model="tiny", input="hi", max_output_tokens=limit)
    events = [event async for event in await create(model="tiny", input="hi", max_output_tokens=limit, stream=True)]
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{end}",
    ]
    for event in events:
        _fits_the_sdks_types(event)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert len(deltas) > 1
    assert "".join(deltas) == whole.output_text
    last: Any = events[-1]
    assert _without_ids(last.response.to_dict()) == _without_ids(whole.to_dict())
    items = {event.item_id for event in events if hasattr(event, "item_id")}
    assert items == {last.response.output[0].id}


def _without_ids(response: dict[str, Any]) -> dict[str, Any]:
    output = [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]
    return {**response, "id": None, "output": output}


async def test_events_are_named_in_the_stream_itself(shared_router: RunningRouter) -> None:
    """Clients that know no JSON pick events by the line before it."""
    await fake_of(shared_router)
    response = await shared_router.http.post("/v1/responses", json=BASE | {"stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = response.text.removesuffix("\n\n").split("\n\n")
    for block in blocks:
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert "[DONE]" not in response.text


async def test_the_sdks_helper_follows_a_stream(shared_router: RunningRouter) -> None:
    await fake_of(shared_router)
    async with shared_router.openai.responses.stream(model="tiny", input="hi") as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == final.output_text == "hello world"
    assert final.usage


class Answer(BaseModel):
    a: int


@pytest.mark.parametrize("streams", [True, False])
async def test_structured_output(shared_router: RunningRouter, streams: bool) -> None:
    fake = await fake_of(shared_router)
    fake.script = fake.says('{"a": 5}')
    if streams:
        async with shared_router.openai.responses.stream(model="tiny", input="hi", text_format=Answer) as stream:
            parsed = (await stream.get_final_response()).output_parsed
    else:
        parsed = (
            await shared_router.openai.responses.parse(model="tiny", input="hi", text_format=Answer)
        ).output_parsed
    assert parsed == Answer(a=5)
    grammar = fake.calls[-1].sampling.grammar
    assert grammar.kind == "json_schema"
    assert json.loads(grammar.text)["required"] == ["a"]


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"type": "json_object"}, "json_object"),
        ({"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": False}, "json_schema"),
        ({"type": "text"}, ""),
    ],
)
async def test_forms_of_text(shared_router: RunningRouter, form: dict[str, Any], kind: str) -> None:
    fake = await fake_of(shared_router)
    answer = (await shared_router.http.post("/v1/responses", json=BASE | {"text": {"format": form}})).json()
    assert answer["text"] == {"format": form}
    assert fake.calls[-1].sampling.grammar.kind == kind


async def test_logprobs(shared_router: RunningRouter) -> None:
    await fake_of(shared_router)
    body = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = await _create(shared_router)(**BASE, **body)
    _fits_the_sdks_types(response)
    told = response.output[0].content[0].logprobs
    assert told
    assert b"".join(bytes(token.bytes) for token in told).decode() == response.output_text
    assert all(len(token.top_logprobs) == 2 for token in told)
    streamed: list[Any] = []
    async for event in await _create(shared_router)(**BASE, **body, stream=True):
        if event.type == "response.output_text.delta":
            streamed += event.logprobs
    assert [(token.token, token.logprob) for token in streamed] == [(token.token, token.logprob) for token in told]


async def test_the_account_of_a_request(shared_router: RunningRouter) -> None:
    await fake_of(shared_router)
    headers = {"x-prfaas-trace": "1"}
    whole = await shared_router.http.post("/v1/responses", json=BASE, headers=headers)
    assert whole.json()["prfaas"]["decode"]["instance"] == "decode-1"
    stream = await shared_router.http.post("/v1/responses", json=BASE | {"stream": True}, headers=headers)
    assert stream.text.count('"prfaas":{') == 1


@pytest.mark.parametrize(
    ("error", "code"), [(EngineError("out of luck"), "server_error"), (RequestError("no way on"), "invalid_prompt")]
)
async def test_a_stream_that_breaks_says_so_in_its_last_event(
    shared_router: RunningRouter, error: PrfaasError, code: str
) -> None:
    fake = await fake_of(shared_router, lambda _: [Say([70, 71]), Fail(error)])
    before = shared_router.metric("prfaas_router_failures_total", code=error.code)
    stream = await _create(shared_router)(**BASE, stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    _fits_the_sdks_types(last)
    assert last.response.status == "failed"
    assert last.response.error
    assert last.response.error.code == code
    assert str(error) in last.response.error.message
    assert last.response.output_text == shared_router.tokenizer.decode([70, 71])
    assert shared_router.metric("prfaas_router_failures_total", code=error.code) == before + 1
    assert len(fake.calls)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_fails_before_the_first_token_keeps_its_status(shared_router: RunningRouter, stream: bool) -> None:
    await fake_of(shared_router, lambda _: [Fail(RequestError("no way in"))])
    with pytest.raises(openai.BadRequestError, match="no way in"):
        await _create(shared_router)(**BASE, stream=stream)


REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "null"),
    ({"store": True}, "store", "False"),
    ({"background": True}, "background", "False"),
    ({"conversation": "c"}, "conversation", "null"),
    ({"include": ["reasoning.encrypted_content"]}, "include[0]", "message.output_text.logprobs"),
    ({"top_logprobs": 2}, None, "include"),
    ({"truncation": "auto"}, "truncation", "'disabled'"),
    ({"reasoning": {"effort": "low"}}, "reasoning.effort", "null"),
    ({"text": {"verbosity": "low"}}, "text.verbosity", "null"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "'json_schema'"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "required"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "text.format", "not"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'function'"),
    ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading", "False"),
    ({"tool_choice": "required"}, "tool_choice", "'none' or 'auto'"),
    ({"max_tool_calls": 1}, "max_tool_calls", "null"),
    ({"max_tokens": 5}, "max_tokens", "not a parameter"),
    ({"max_output_tokens": 0}, "max_output_tokens", "greater than"),
    ({"messages": []}, "messages", "not a parameter"),
    ({"n": 2}, "n", "not a parameter"),
    ({"stream_options": {}}, None, "stream: true"),
    ({"input": []}, "input", "at least 1"),
    ({"input": None}, "input", "string"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type", "'function_call_output'"),
    ({"input": [{"type": "reasoning", "id": "r", "summary": []}]}, "input[0].type", "'function_call_output'"),
    ({"input": [{"role": "critic", "content": "x"}]}, "input[0].role", "'developer'"),
    ({"input": [CALL | {"arguments": "[1]"}]}, "input[0].arguments", "not a JSON object"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", "required"),
    ({"input": ["hi"]}, "input[0]", "an object"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k", "at most 512"),
    ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}.[key]", "at most 64"),
    ({"metadata": {str(i): "v" for i in range(17)}}, "metadata", "at most 16"),
    ({"service_tier": "priority"}, "service_tier", "'flex'"),
    ({"prompt": {"id": "p"}}, "prompt", "null"),
]


@pytest.mark.parametrize(("fault", "param", "words"), REFUSED)
async def test_what_is_refused_is_named(
    shared_router: RunningRouter, fault: dict[str, Any], param: str | None, words: str
) -> None:
    error = error_of(await shared_router.http.post("/v1/responses", json=BASE | fault), 400)
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("role", "part", "words"),
    [
        ("user", {"type": "input_image", "image_url": "x"}, "input_text"),
        ("user", {"type": "input_file", "file_id": "x"}, "input_text"),
        ("user", {"type": "input_audio"}, "input_text"),
        ("user", {"type": "output_text", "text": "x"}, "input_text"),
        ("assistant", {"type": "input_text", "text": "x"}, "output_text"),
        ("assistant", {"type": "refusal", "refusal": "x"}, "output_text"),
    ],
)
async def test_parts_that_are_not_text(
    shared_router: RunningRouter, role: str, part: dict[str, Any], words: str
) -> None:
    body = BASE | {"input": [{"role": role, "content": [part]}]}
    error = error_of(await shared_router.http.post("/v1/responses", json=body), 400)
    assert error["param"] == "input[0].content[0].type"
    assert words in error["message"]


async def test_another_model(shared_router: RunningRouter) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await _create(shared_router)(model="other", input="hi")


NEUTRAL: dict[str, Any] = {
    "background": False,
    "context_management": [],
    "include": [],
    "parallel_tool_calls": True,
    "prompt_cache_key": "k",
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": "s",
    "service_tier": "auto",
    "store": False,
    "text": {"format": {"type": "text"}, "verbosity": None},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "truncation": "disabled",
}
ONLY_NULL = [
    "access_programs",
    "background_options",
    "conversation",
    "image",
    "max_tool_calls",
    "moderation",
    "previous_response_id",
    "prompt",
    "prompt_cache_options",
    "prompt_cache_retention",
]


async def test_values_that_want_nothing_change_nothing(shared_router: RunningRouter) -> None:
    fake = await fake_of(shared_router)
    seen: list[Any] = []
    nulls = dict.fromkeys([*NEUTRAL, *ONLY_NULL, "instructions", "max_output_tokens", "metadata", "stream", "user"])
    for body in (BASE, BASE | NEUTRAL, BASE | nulls):
        response = await shared_router.http.post("/v1/responses", json=body)
        assert response.status_code == 200, response.text
        seen.append((fake.calls[-1].sampling, fake.calls[-1].prompt_token_ids))
    assert seen[0] == seen[1] == seen[2]


async def test_the_engines_own_options(shared_router: RunningRouter) -> None:
    fake = await fake_of(shared_router)
    extra = {"top_k": 7, "min_p": 0.1, "seed": 3, "stop": ["wor"], "presence_penalty": 0.5, "cache_salt": "mine"}
    response = await _create(shared_router)(**BASE, extra_body=extra)
    sampling = fake.calls[-1].sampling
    assert (sampling.top_k, sampling.min_p, sampling.seed, sampling.presence_penalty) == (7, 0.1, 3, 0.5)
    assert fake.calls[-1].cache_salt == "mine"
    assert response.output_text == "hello "


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tooled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningRouter]:
    path = Path(shutil.copytree(model, tmp_path_factory.mktemp("tooled") / "model"))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    async with running_router(path) as router:
        yield router


async def prompt_of(router: RunningRouter, **body: Any) -> str:
    fake = await fake_of(router)
    await _create(router)(**{"model": "tiny", **body})
    return str(router.tokenizer.decode(list(fake.calls[-1].prompt_token_ids), skip_special_tokens=False))


@pytest.mark.parametrize(
    ("items", "prompt"),
    [
        ("hi", "user: hi\n"),
        ([{"role": "user", "content": "hi"}], "user: hi\n"),
        (
            [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "a"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "b"}, {"type": "input_text", "text": "c"}]},
            ],
            "developer: a\nuser: bc\n",
        ),
        ([{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}], "assistant: x\nuser: y\n"),
        (
            [CALL, CALL | {"call_id": "c2", "arguments": ""}, OUTPUT],
            'assistant:  CALL weather {"city": "Brünn"} CALL weather {}\ntool: rain FOR c1\n',
        ),
        (
            [
                {"role": "assistant", "content": "well"},
                CALL | {"id": "fc", "status": "completed"},
                {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "rain"}]},
            ],
            'assistant: well CALL weather {"city": "Brünn"}\ntool: rain FOR c1\n',
        ),
    ],
)
async def test_items_become_the_turns_of_a_chat(tooled: RunningRouter, items: Any, prompt: str) -> None:
    assert await prompt_of(tooled, input=items) == prompt
    assert await prompt_of(tooled, input=items, instructions="be brief") == f"system: be brief\n{prompt}"


async def test_an_answer_is_sent_back_as_it_came(tooled: RunningRouter) -> None:
    await fake_of(tooled)
    first = await _create(tooled)(model="tiny", input="hi", include=["message.output_text.logprobs"], top_logprobs=1)
    prompt = await prompt_of(tooled, input=[{"role": "user", "content": "hi"}, *first.output])
    assert prompt == "user: hi\nassistant: hello world\n"


async def test_tools_reach_the_template_as_in_chats(tooled: RunningRouter) -> None:
    prompt = await prompt_of(tooled, input="hi", tools=[TOOL])
    first, _, rest = prompt.partition("\n")
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert json.loads(first.removeprefix("TOOLS ")) == [{"type": "function", "function": function}]
    assert rest == "user: hi\n"
    assert await prompt_of(tooled, input="hi", tools=[TOOL], tool_choice="none") == "user: hi\n"
    answer = await _create(tooled)(model="tiny", input="hi", tools=[TOOL])
    assert [tool.to_dict() for tool in answer.tools] == [TOOL]


async def test_an_instance_that_dies_in_the_middle(shared_router: RunningRouter) -> None:
    await fake_of(shared_router, lambda _: [Say([70]), Abort(grpc.StatusCode.INTERNAL)])
    stream = await _create(shared_router)(**BASE, stream=True)
    assert [event async for event in stream][-1].type == "response.failed"

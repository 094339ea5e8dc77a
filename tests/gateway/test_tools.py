"""Tools, their calls and answers, and the client's own variables, as chat templates get them."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prfaas.core.errors import RequestError
from prfaas.gateway.chat_template import ChatTemplate, load_chat_template
from tests.gateway.running_router import RunningRouter, running_router
from tests.gateway.test_bad_requests import error_of

TEMPLATE = r"""
{%- if tools %}TOOLS {{ tools | tojson }}
{% endif %}
{%- if enable_thinking is defined %}THINK {{ enable_thinking }}
{% endif %}
{%- for m in messages %}{{ m.role }}: {{ m.content }}
{%- if m.reasoning_content %} ({{ m.reasoning_content }}){% endif %}
{%- for call in m.tool_calls or [] %} CALL {{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}
{%- if m.tool_call_id %} FOR {{ m.tool_call_id }}{% endif %}{{ "\n" }}
{%- endfor %}"""

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object"}, "strict": True},
}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Brünn"}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "audio": None, "annotations": []},
    {"role": "tool", "tool_call_id": "call-1", "content": [{"type": "text", "text": "rain"}]},
]


@pytest.fixture
async def tooled(model: Path, tmp_path: Path) -> AsyncIterator[RunningRouter]:
    path = Path(shutil.copytree(model, tmp_path / "model"))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    async with running_router(path) as router:
        yield router


async def prompt_of(router: RunningRouter, **body: Any) -> str:
    fake = router.fakes[0] if router.fakes else await router.add()
    response = await router.http.post("/v1/chat/completions", json={"model": "tiny", "messages": CHAT[:1]} | body)
    assert response.status_code == 200, response.text
    return str(router.tokenizer.decode(list(fake.calls[-1].prompt_token_ids), skip_special_tokens=False))


async def test_definitions_reach_the_template_as_they_were_sent(tooled: RunningRouter) -> None:
    prompt = await prompt_of(tooled, tools=[TOOL])
    first, _, rest = prompt.partition("\n")
    assert json.loads(first.removeprefix("TOOLS ")) == [TOOL]
    assert rest == "user: hi\n"
    for choice in ("auto", None):
        assert await prompt_of(tooled, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False) == prompt


@pytest.mark.parametrize("body", [{"tool_choice": "none", "tools": [TOOL]}, {"tools": []}, {"tools": None}, {}])
async def test_where_none_shall_be_called_the_model_sees_none(tooled: RunningRouter, body: dict[str, Any]) -> None:
    assert await prompt_of(tooled, **body) == "user: hi\n"


async def test_calls_and_their_answers(tooled: RunningRouter) -> None:
    prompt = await prompt_of(tooled, messages=CHAT)
    assert prompt == 'user: hi\nassistant:  CALL weather {"city": "Brünn"}\ntool: rain FOR call-1\n'


async def test_earlier_reasoning(tooled: RunningRouter) -> None:
    messages = [{"role": "assistant", "content": "4", "reasoning_content": "2+2", "name": "a"}]
    assert await prompt_of(tooled, messages=messages) == "assistant: 4 (2+2)\n"


async def test_variables_of_the_client(tooled: RunningRouter) -> None:
    prompt = await prompt_of(tooled, chat_template_kwargs={"enable_thinking": False})
    assert prompt == "THINK False\nuser: hi\n"
    assert await prompt_of(tooled, chat_template_kwargs={}) == "user: hi\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("[1]", "not a JSON object"),
        ("{", "not a JSON object"),
        ("[" * 100_000, "not a JSON"),
        ('{"half a pair": "\\ud83d"}', "not a JSON object"),
        ('{"a": NaN}', "not a JSON object"),
    ],
)
async def test_arguments_that_are_no_object(tooled: RunningRouter, arguments: str, words: str) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    body = {"model": "tiny", "messages": [{"role": "assistant", "tool_calls": [call]}]}
    error = error_of(await tooled.http.post("/v1/chat/completions", json=body), 400)
    assert error["param"] == "messages[0].tool_calls[0].function.arguments"
    assert words in error["message"]


async def test_a_template_without_tools_refuses_them(router: RunningRouter) -> None:
    body = {"model": "tiny", "messages": CHAT[:1], "tools": [TOOL]}
    error = error_of(await router.http.post("/v1/chat/completions", json=body), 400)
    assert "no place for tools" in error["message"]


async def test_without_a_template_there_are_texts_but_no_chats(model: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(model, tmp_path / "model"))
    (path / "tokenizer_config.json").unlink()
    async with running_router(path) as router:
        await router.add()
        body = {"model": "tiny", "messages": CHAT[:1]}
        error = error_of(await router.http.post("/v1/chat/completions", json=body), 400)
        assert "has no chat template; use /v1/completions" in error["message"]
        assert (await router.http.post("/v1/completions", json={"model": "tiny", "prompt": "a"})).status_code == 200


def test_a_template_for_tools_of_its_own(model: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(model, tmp_path / "model"))
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with {{ tools | length }}"}]
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    template = load_chat_template(path)
    assert template
    assert template.render([{"role": "user", "content": "x"}]) == "plain"
    assert template.render([{"role": "user", "content": "x"}], [TOOL]) == "with 1"


@pytest.mark.parametrize("name", ["messages", "tools", "documents", "add_generation_prompt", "eos_token"])
def test_what_the_server_sets_cannot_be_set(name: str) -> None:
    template = ChatTemplate("{{ messages }}{{ tools }}{{ eos_token }}", {"eos_token": "</s>"})
    with pytest.raises(RequestError, match=f"{name} is set by the server"):
        template.render([{"role": "user", "content": "x"}], None, {name: 1})

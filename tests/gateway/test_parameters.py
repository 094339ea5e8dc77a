"""Every parameter of OpenAI's SDK is in the table of docs/openai-api.md, and is treated as the table says."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from prfaas.gateway.body import Body
from prfaas.gateway.responses_body import ResponsesBody
from prfaas.gateway.schema import ChatBody, CompletionBody
from tests.gateway.running_router import RunningRouter
from tests.gateway.test_bad_requests import CHAT, TEXT, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLUMNS = ("chat", "texts", "responses")
PATHS = {"chat": "/v1/chat/completions", "texts": "/v1/completions", "responses": "/v1/responses"}
BODIES: dict[str, type[Body]] = {"chat": ChatBody, "texts": CompletionBody, "responses": ResponsesBody}
BASES: dict[str, dict[str, Any]] = {"chat": CHAT, "texts": TEXT, "responses": {"model": "tiny", "input": "hi"}}
OF_THE_SDK = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}

ANY_VALUE: dict[str, Any] = {
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "user": "u",
}
"""For parameters without effect."""
WANTS_SOMETHING: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "audio": {"format": "wav", "voice": "alloy"},
    "background": True,
    "background_options": {"completion_window": "8h"},
    "best_of": 2,
    "context_management": [{"type": "compaction"}],
    "conversation": "conv_1",
    "echo": True,
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "image": {"context_compression": "auto"},
    "include": ["file_search_call.results"],
    "max_tool_calls": 1,
    "modalities": ["audio"],
    "moderation": {"model": "m"},
    "prediction": {"type": "content", "content": "x"},
    "previous_response_id": "resp_1",
    "prompt": {"id": "p"},
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "low"},
    "reasoning_effort": "low",
    "service_tier": "priority",
    "store": True,
    "stream_options": {"include_obfuscation": True},
    "suffix": "x",
    "tool_choice": "required",
    "truncation": "auto",
    "verbosity": "low",
    "web_search_options": {},
}
"""For parameters that are accepted with some values only: another one."""


def _table() -> dict[str, dict[str, str]]:
    text = (Path(__file__).parents[2] / "docs" / "openai-api.md").read_text()
    section = text.split("## Every parameter of OpenAI's API")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", section, re.MULTILINE)
    return {name: dict(zip(COLUMNS, cells, strict=True)) for name, *cells in rows}


TABLE = _table()
CELLS = [(column, name, cells[column]) for name, cells in TABLE.items() for column in COLUMNS]


@pytest.mark.parametrize("column", COLUMNS)
async def test_the_table_has_every_parameter_of_the_sdk(column: str) -> None:
    client = AsyncOpenAI(api_key="none")
    create: Any = {
        "chat": client.chat.completions.create,
        "texts": client.completions.create,
        "responses": client.responses.create,
    }[column]
    names = set(inspect.signature(create).parameters) - OF_THE_SDK
    assert len(names) > 15
    assert names <= {name for name, cells in TABLE.items() if cells[column] != "–"}
    await client.close()


async def test_the_table_names_what_bodies_have() -> None:
    for column, name, cell in CELLS:
        assert (name in BODIES[column].model_fields) == (cell != "–"), (column, name)
        assert cell in ("–", "yes", "no effect") or cell.startswith("only ")


@pytest.mark.parametrize(("column", "name"), [cell[:2] for cell in CELLS if cell[2].startswith("only")])
async def test_other_values_are_refused_by_name(shared_router: RunningRouter, column: str, name: str) -> None:
    body = BASES[column] | {name: WANTS_SOMETHING[name]} | ({"stream": True} if name == "stream_options" else {})
    error = error_of(await shared_router.http.post(PATHS[column], json=body), 400)
    assert name in error["message"]
    assert (error["param"] or name).startswith(name)


@pytest.mark.parametrize(("column", "name"), [cell[:2] for cell in CELLS if cell[2] == "no effect"])
async def test_some_have_no_effect(shared_router: RunningRouter, column: str, name: str) -> None:
    fake = shared_router.fakes[0] if shared_router.fakes else await shared_router.add()
    for body in (BASES[column], BASES[column] | {name: ANY_VALUE[name]}):
        response = await shared_router.http.post(PATHS[column], json=body)
        assert response.status_code == 200, response.text
    one, other = fake.calls[-2:]
    assert (one.prompt_token_ids, one.sampling, one.cache_salt) == (
        other.prompt_token_ids,
        other.sampling,
        other.cache_salt,
    )


@pytest.mark.parametrize(("column", "name"), [cell[:2] for cell in CELLS if cell[2] == "–"])
async def test_parameters_of_other_endpoints_are_unknown(shared_router: RunningRouter, column: str, name: str) -> None:
    error = error_of(await shared_router.http.post(PATHS[column], json=BASES[column] | {name: None}), 400)
    assert (error["param"], error["code"]) == (name, "unknown_parameter")

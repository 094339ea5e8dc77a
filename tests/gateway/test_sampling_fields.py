"""Every field of sampling reaches the instance, for both endpoints; what has no effect here is accepted or refused."""

from typing import Any

import pytest

from prfaas.control.convert import sampling_from_pb
from prfaas.core.request import SamplingParams
from tests.gateway.running_router import DRAWN_SEED, RunningRouter
from tests.gateway.test_bad_requests import CHAT, TEXT, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDPOINTS = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)]


async def sampling_of(router: RunningRouter, path: str, body: dict[str, Any]) -> SamplingParams:
    fake = router.fakes[0] if router.fakes else await router.add()
    response = await router.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return sampling_from_pb(fake.calls[-1].sampling)


@pytest.mark.parametrize(("path", "base"), ENDPOINTS)
async def test_all_fields(shared_router: RunningRouter, path: str, base: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "max_tokens": 30,
        "temperature": 0.5,
        "top_p": 0.75,
        "top_k": 40,
        "min_p": 0.125,
        "repetition_penalty": 1.25,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.25,
        "seed": 11,
        "min_tokens": 3,
        "ignore_eos": True,
    }
    body = base | fields | {"logit_bias": {"7": -100, "3": 2.5}, "stop_token_ids": [5, 250]}
    expected = SamplingParams(**fields, logit_bias=((3, 2.5), (7, -100.0)), stop_token_ids=frozenset({5, 250}))
    assert await sampling_of(shared_router, path, body) == expected


@pytest.mark.parametrize(("path", "base"), ENDPOINTS)
async def test_defaults_change_nothing(shared_router: RunningRouter, path: str, base: dict[str, Any]) -> None:
    names = ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias")
    nulls = dict.fromkeys((*names, "stop_token_ids", "min_tokens", "logprobs", "response_format", "seed"))
    sampling = await sampling_of(shared_router, path, base | nulls | {"max_tokens": 9})
    assert sampling == SamplingParams(max_tokens=9, seed=DRAWN_SEED)


@pytest.mark.parametrize("top_k", [0, -1])
async def test_all_tokens(shared_router: RunningRouter, top_k: int) -> None:
    assert (await sampling_of(shared_router, "/v1/completions", TEXT | {"top_k": top_k})).top_k == top_k


@pytest.mark.parametrize(("path", "base"), ENDPOINTS)
async def test_fields_without_effect_that_clients_send(
    shared_router: RunningRouter, path: str, base: dict[str, Any]
) -> None:
    harmless = {
        "user": "someone",
        "safety_identifier": "x",
        "prompt_cache_key": "y",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
    }
    plain = await sampling_of(shared_router, path, base)
    assert await sampling_of(shared_router, path, base | harmless) == plain
    own = {"parallel_tool_calls": True, "modalities": ["text"], "tool_choice": "auto"}
    if path == "/v1/completions":
        own = {"echo": False, "best_of": 1, "suffix": None}
    assert await sampling_of(shared_router, path, base | own) == plain


async def test_a_context_that_is_too_short_names_both_numbers(shared_router: RunningRouter) -> None:
    error = error_of(await shared_router.http.post("/v1/completions", json=TEXT | {"max_tokens": 5000}), 400)
    assert error["code"] == "context_length_exceeded"
    assert "5000" in error["message"]
    assert "2000" in error["message"]

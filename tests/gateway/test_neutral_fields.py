"""Bodies as the clients of other servers send them: what wants nothing changes nothing."""

from typing import Any

import pytest

from prfaas.control.convert import sampling_from_pb
from tests.gateway.running_router import DRAWN_SEED, RunningRouter
from tests.gateway.test_bad_requests import CHAT, TEXT
from tests.gateway.test_sampling_fields import ENDPOINTS, sampling_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH: dict[str, Any] = {
    "best_of": 1,
    "use_beam_search": False,
    "early_stopping": False,
    "length_penalty": 1,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
    "detokenize": True,
    "bad_words": [],
    "allowed_token_ids": None,
    "logits_processors": None,
    "truncate_prompt_tokens": None,
    "prompt_logprobs": None,
    "return_token_ids": False,
    "return_tokens_as_token_ids": False,
    "priority": 0,
    "cache_salt": None,
    "kv_transfer_params": None,
    "vllm_xargs": None,
    "guided_json": None,
    "guided_regex": None,
    "guided_choice": None,
    "guided_grammar": None,
    "guided_decoding_backend": None,
    "echo": False,
    "stop": [],
    "logit_bias": {},
    "n": 1,
    "presence_penalty": 0,
}
CHATS: dict[str, Any] = {
    "add_generation_prompt": True,
    "continue_final_message": False,
    "add_special_tokens": False,
    "chat_template": None,
    "chat_template_kwargs": {},
    "documents": [],
    "mm_processor_kwargs": None,
    "include_reasoning": True,
    "functions": [],
    "function_call": None,
    "tools": [],
    "tool_choice": "auto",
    "reasoning_effort": None,
    "verbosity": None,
    "audio": None,
    "prediction": None,
    "web_search_options": None,
    "top_logprobs": 0,
    "logprobs": False,
}
OWN: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHATS,
    "/v1/completions": {"add_special_tokens": True, "suffix": ""},
}


@pytest.mark.parametrize(("path", "base"), ENDPOINTS)
async def test_neutral_values_and_nulls(shared_router: RunningRouter, path: str, base: dict[str, Any]) -> None:
    plain = await sampling_of(shared_router, path, base)
    assert await sampling_of(shared_router, path, base | BOTH | OWN[path]) == plain
    assert await sampling_of(shared_router, path, base | dict.fromkeys(BOTH | OWN[path])) == plain


@pytest.mark.parametrize("sent", [-1, None])
async def test_a_seed_that_asks_for_a_drawn_one(shared_router: RunningRouter, sent: int | None) -> None:
    assert (await sampling_of(shared_router, "/v1/completions", TEXT | {"seed": sent})).seed == DRAWN_SEED


async def test_negative_seeds_are_seeds(shared_router: RunningRouter) -> None:
    seeds = {(await sampling_of(shared_router, "/v1/completions", TEXT | {"seed": s})).seed for s in (-2, -3, 2, 3)}
    assert len(seeds) == 4


async def test_both_names_of_the_same_limit(shared_router: RunningRouter) -> None:
    body = CHAT | {"max_tokens": 7, "max_completion_tokens": 7}
    assert (await sampling_of(shared_router, "/v1/chat/completions", body)).max_tokens == 7


@pytest.mark.parametrize("chat", [True, False])
async def test_usage_on_every_chunk(shared_router: RunningRouter, chat: bool) -> None:
    """As load generators ask for it, to time tokens although several may come at once."""
    fake = shared_router.fakes[0] if shared_router.fakes else await shared_router.add()
    options: dict[str, Any] = {"max_tokens": 5, "n": 2, "stream": True}
    options["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    if chat:
        stream: Any = await shared_router.openai.chat.completions.create(
            model="tiny", messages=CHAT["messages"], **options
        )
    else:
        stream = await shared_router.openai.completions.create(model="tiny", prompt="hi", **options)
    used = [chunk.usage async for chunk in stream]
    assert all(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens for usage in used)
    counts = [usage.completion_tokens for usage in used]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert len({usage.prompt_tokens for usage in used}) == 1
    assert sampling_from_pb(fake.calls[-1].sampling).max_tokens == 5

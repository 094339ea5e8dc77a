"""Tenants with salts of their own, through the HTTP API of a fleet: each finds its own prefixes, and no other's."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.fleet.rig import InProcessFleet, prompt_of, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = prompt_of(90)
BLOCK = 16
TENANTS = ["one", "two", "One", "one ", None]


@dataclass(frozen=True)
class Told:
    """What an answer says of itself."""

    tokens: list[int]
    prompt_tokens: int
    cached_tokens: int
    trace: dict[str, Any]

    @property
    def reusable_tokens(self) -> int:
        """Whole blocks of the prompt, after which a token remains to be computed."""
        return (self.prompt_tokens - 1) // BLOCK * BLOCK


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(model: Path) -> AsyncIterator[InProcessFleet]:
    async with running(model, engine={"prefix_cache": {"snapshot_every_tokens": 0}}) as running_fleet:
        yield running_fleet


async def ask(fleet: InProcessFleet, prompt: str, salt: str | None, prefill: str = "local") -> Told:
    completion = await fleet.client.completions.create(
        model="tiny",
        prompt=prompt,
        max_tokens=6,
        temperature=0,
        extra_headers={"x-prfaas-trace": "1", "x-prfaas-prefill": prefill},
        extra_body={"ignore_eos": True, "cache_salt": salt},
    )
    trace, usage = (completion.model_extra or {})["prfaas"], completion.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    cached = usage.prompt_tokens_details.cached_tokens or 0
    assert trace["prefill"]["tokens_reused"] == cached
    assert trace["prefill"]["tokens_computed"] == usage.prompt_tokens - cached
    return Told(list(trace["token_ids"]), usage.prompt_tokens, cached, trace)


async def chat(fleet: InProcessFleet, question: str, salt: str | None) -> int:
    """Tokens of a chat that were there."""
    completion = await fleet.client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": question}],
        max_tokens=3,
        temperature=0,
        extra_body={"cache_salt": salt},
    )
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    return completion.usage.prompt_tokens_details.cached_tokens or 0


@pytest.mark.parametrize("prefill", ["local", "remote"])
async def test_equal_prompts_of_different_tenants_at_once(fleet: InProcessFleet, prefill: str) -> None:
    """Two of each tenant: of those one computes, and the other waits for it or computes as well."""
    prompt = f"{prefill} {PROMPT}"
    told = await asyncio.gather(*(ask(fleet, prompt, salt, prefill) for salt in TENANTS * 2))
    by_tenant = list(zip(told[: len(TENANTS)], told[len(TENANTS) :], strict=True))
    for pair in by_tenant:
        assert min(one.cached_tokens for one in pair) == 0
        assert max(one.cached_tokens for one in pair) in (0, pair[0].reusable_tokens)
    again = await asyncio.gather(*(ask(fleet, prompt, salt, prefill) for salt in TENANTS))
    assert [one.cached_tokens for one in again] == [one.reusable_tokens for one in again]
    assert len({tuple(one.tokens) for one in [*told, *again]}) == 1
    stranger = await ask(fleet, prompt, "three", prefill)
    assert stranger.cached_tokens == 0
    assert stranger.trace["kv"]["bytes_wire"] == (told[0].trace["kv"]["bytes_wire"])


async def test_a_chat_of_another_tenant_finds_nothing(fleet: InProcessFleet) -> None:
    question = prompt_of(60, skip=300)
    assert await chat(fleet, question, "one") == 0
    assert await chat(fleet, question, "two") == 0
    assert await chat(fleet, question, None) == 0
    assert await chat(fleet, question, "one") > 0


async def test_a_longer_prompt_of_another_tenant_parts_from_nothing(fleet: InProcessFleet) -> None:
    """Where prompts part a snapshot is taken, which only those take who share a salt."""
    first, second, third = (f"{PROMPT[:200]} {prompt_of(30, skip=500 + 40 * i)}" for i in range(3))
    for prompt, salt in ((first, "a"), (second, "b"), (third, "c")):
        assert (await ask(fleet, prompt, salt)).cached_tokens == 0
    found = [(await ask(fleet, prompt, "d")).cached_tokens for prompt in (first, second, third)]
    assert found[:2] == [0, 0]
    assert found[2] > 0

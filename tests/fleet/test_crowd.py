"""A hundred requests at once on a decode instance that is far too small for them, many of which are given up."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prfaas.engine.engine import Engine
from prfaas.engine.model_runner import ModelRunner
from tests.fleet.rig import InProcessFleet, prompt_of, running

REQUESTS = 100
KINDS = 16
POOL = {"num_pages": 216, "page_tokens": 16, "max_running_requests": 12, "step_tokens": 128}
"""The states of eight requests take 192 pages of it."""


@dataclass(frozen=True)
class Asked:
    """One kind of request; several of the crowd are of each."""

    words: int
    skip: int
    max_tokens: int
    options: dict[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        extra = {"ignore_eos": True, **self.options.get("extra_body", {})}
        options = {"temperature": 0, **self.options, "extra_body": extra}
        return {"model": "tiny", "prompt": prompt_of(self.words, self.skip), "max_tokens": self.max_tokens, **options}


LONG = Asked(words=1, skip=0, max_tokens=240, options={})
"""The pool has room for eight that begin, and not for eight that end."""


def kinds(chance: random.Random) -> list[Asked]:
    """Short and long, greedy and seeded, with penalties."""
    options: list[dict[str, Any]] = [{}, {"temperature": 0.8, "seed": 3}, {"frequency_penalty": 0.5}]
    return [
        Asked(chance.choice([1, 15, 16, 17, 90, 140]), 40 * i, chance.choice([1, 8, 30, 60]), options[i % 3])
        for i in range(KINDS)
    ]


async def whole(fleet: InProcessFleet, asked: Asked, prefill: str) -> list[int]:
    """The tokens of an answer that comes in one piece."""
    headers = {"x-prfaas-trace": "1", "x-prfaas-prefill": prefill}
    answer = await fleet.client.completions.create(**asked.body, extra_headers=headers)
    return list((answer.model_extra or {})["prfaas"]["token_ids"])


async def streamed(fleet: InProcessFleet, asked: Asked, prefill: str, give_up_after: int | None) -> list[int] | None:
    """The tokens of a stream, or None once it has been given up after so many pieces."""
    headers = {"x-prfaas-trace": "1", "x-prfaas-prefill": prefill}
    stream = await fleet.client.completions.create(**asked.body, stream=True, extra_headers=headers)
    pieces, account = 0, None
    async with stream:
        async for chunk in stream:
            if pieces == give_up_after:
                return None
            pieces += 1
            account = (chunk.model_extra or {}).get("prfaas", account)
    assert account is not None
    return list(account["token_ids"])


async def given_up(asking: "asyncio.Task[list[int] | None]", turns: int) -> None:
    """Hangs up at some moment before the first token, or later: in the queue, in prefill, in a transfer."""
    for _ in range(turns):
        await asyncio.sleep(0.002)
    asking.cancel()
    await asyncio.wait({asking})


async def one(fleet: InProcessFleet, asked: Asked, expected: Sequence[int], chance: random.Random) -> bool:
    """One of the crowd; True if it was not given up, and then it was answered rightly."""
    prefill = chance.choice(["local", "remote"])
    how = chance.random()
    if how < 0.25:
        turns = chance.randrange(400)
        await given_up(asyncio.create_task(streamed(fleet, asked, prefill, None)), turns)
        return False
    if how < 0.4:
        after = chance.randrange(max(1, asked.max_tokens // 2))
        return await streamed(fleet, asked, prefill, after) is not None
    tokens = await (whole(fleet, asked, prefill) if how < 0.7 else streamed(fleet, asked, prefill, None))
    assert tokens == expected
    return True


def nothing_is_kept(engine: Engine) -> bool:
    assert isinstance(engine._runner, ModelRunner)
    drawer = engine._runner._drawer
    return not (engine._times or drawer._counts or drawer._grammars or engine._scheduler.waiting_tokens)


# The SDK's own generator of a stream whose reader was cancelled is at times collected while it still runs.
@pytest.mark.filterwarnings("ignore:.*aiter_raw:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cached", [False, True])
async def test_whoever_stays_is_answered_as_if_alone(model: Path, cached: bool) -> None:
    chance = random.Random(1)
    asked = kinds(chance)
    async with running(model, engine={**POOL, "prefix_cache": {"enabled": cached}}) as fleet:
        expected = [await whole(fleet, kind, "local") for kind in asked]
        assert [len(tokens) for tokens in expected] == [kind.max_tokens for kind in asked]
        chosen = [chance.randrange(KINDS) for _ in range(REQUESTS)]
        crowd = [one(fleet, asked[i], expected[i], random.Random(n)) for n, i in enumerate(chosen)]
        alone = await whole(fleet, LONG, "local")
        long = [whole(fleet, LONG, "local") for _ in range(8)]
        answers, stayed = await asyncio.gather(asyncio.gather(*long), asyncio.gather(*crowd))
        assert answers == [alone] * 8
        assert REQUESTS / 3 < sum(stayed) < REQUESTS
        await fleet.settled()
        decode = fleet.instances["west-d"].server
        assert decode.metrics.preemptions._value.get() > 0
        for name, built in fleet.instances.items():
            assert nothing_is_kept(fleet.engines[name].engine)
            assert built.server.servicer.num_running == 0

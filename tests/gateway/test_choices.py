"""Several choices for one call: n, lists of prompts, their seeds, usage, and what happens when one fails."""

import asyncio
from collections import defaultdict
from typing import Any

import openai
import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import EngineError
from prfaas.gateway.choices import choice_seed
from tests.gateway.fake_instance import Fail, FakeInstance, Finish, Say, Script, Step, Wait
from tests.gateway.running_router import DRAWN_SEED, RunningRouter
from tests.gateway.test_chat import ASK


def says_its_seed(fake: FakeInstance) -> Script:
    return lambda call: fake.says(f"🎉 seed {call.sampling.seed}")(call)


async def test_n_choices_of_a_chat(router: RunningRouter) -> None:
    fake = await router.add(account={"tokens_reused": 4})
    fake.script = says_its_seed(fake)
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert texts == [f"🎉 seed {choice_seed(7, i)}" for i in range(3)]
    assert texts[0] == "🎉 seed 7", "the first choice is the one that n=1 gives"
    assert len(set(texts)) == 3
    assert answer.usage
    assert answer.usage.prompt_tokens == len(fake.calls[0].prompt_token_ids), "the prompt counts once"
    assert answer.usage.completion_tokens == sum(len(router.tokenizer.encode(text or "").ids) for text in texts)
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert len({call.request_id for call in fake.calls}) == 3
    assert all(call.request_id.startswith(answer.id) for call in fake.calls)


async def test_a_drawn_seed_is_spread_as_well(router: RunningRouter) -> None:
    fake = await router.add()
    await router.openai.completions.create(model="tiny", prompt="a", n=2)
    assert {call.sampling.seed for call in fake.calls} == {choice_seed(DRAWN_SEED, i) for i in range(2)}


@pytest.mark.parametrize("endpoint", ["chat", "text"])
async def test_choices_are_interleaved_in_a_stream(router: RunningRouter, endpoint: str) -> None:
    fake = await router.add()
    fake.script = says_its_seed(fake)
    options: dict[str, Any] = {"model": "tiny", "n": 4, "seed": 1, "max_tokens": 60, "stream": True}
    options["stream_options"] = {"include_usage": True}
    texts: defaultdict[int, str] = defaultdict(str)
    reasons: dict[int, str] = {}
    roles = []
    usage = None
    if endpoint == "chat":
        async for chunk in await router.openai.chat.completions.create(messages=ASK, **options):
            usage = usage or chunk.usage
            for choice in chunk.choices:
                assert choice.index not in reasons, "nothing follows a finish reason"
                texts[choice.index] += choice.delta.content or ""
                roles += [choice.index] if choice.delta.role else []
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
        assert sorted(roles) == [0, 1, 2, 3]
    else:
        async for part in await router.openai.completions.create(prompt="a", **options):
            usage = usage or part.usage
            for piece in part.choices:
                texts[piece.index] += piece.text
                if piece.finish_reason:
                    reasons[piece.index] = piece.finish_reason
    assert texts == {i: f"🎉 seed {choice_seed(1, i)}" for i in range(4)}
    assert reasons == dict.fromkeys(range(4), "stop")
    assert usage
    assert usage.completion_tokens == sum(len(router.tokenizer.encode(text).ids) for text in texts.values())
    assert usage.prompt_tokens == len(fake.calls[0].prompt_token_ids)


async def test_a_list_of_prompts(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = lambda call: fake.says(f"{len(call.prompt_token_ids)}:{call.sampling.seed}")(call)
    answer = await router.openai.completions.create(
        model="tiny", prompt=[[1], [1, 2], [1, 2, 3]], n=2, seed=9, max_tokens=60
    )
    second = choice_seed(9, 1)
    expected = [f"{length}:{seed}" for length in (1, 2, 3) for seed in (9, second)]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert answer.usage
    assert answer.usage.prompt_tokens == 1 + 2 + 3
    texts = await router.openai.completions.create(model="tiny", prompt=["once", "upon a time"])
    assert texts.usage
    assert texts.usage.prompt_tokens == sum(len(router.tokenizer.encode(t).ids) for t in ("once", "upon a time"))


async def test_a_trace_for_each_choice(router: RunningRouter) -> None:
    await router.add()
    body = {"model": "tiny", "prompt": ["a", "b"]}
    response = await router.http.post("/v1/completions", json=body, headers={"x-prfaas-trace": "1"})
    answer = response.json()
    assert [trace["request_id"] for trace in answer["prfaas"]] == [f"{answer['id']}-{i}" for i in range(2)]


def second_fails(fake: FakeInstance, never: asyncio.Event) -> Script:
    def script(call: pb.GenerateRequest) -> list[Step]:
        hello = fake.tokenizer.encode("hello").ids
        if call.request_id.endswith("-1"):
            return [Say(hello), Fail(EngineError("the second broke"))]
        return [Say(hello), Wait(never), Finish()]

    return script


async def test_one_failure_fails_the_answer_and_cancels_the_others(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = second_fails(fake, asyncio.Event())
    with pytest.raises(openai.InternalServerError, match="the second broke"):
        await router.openai.chat.completions.create(model="tiny", messages=ASK, n=3)
    cancelled = {await fake.cancels.get(), await fake.cancels.get()}
    assert {request_id[-2:] for request_id in cancelled} == {"-0", "-2"}


async def test_one_failure_ends_a_stream_and_cancels_the_others(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = second_fails(fake, asyncio.Event())
    body = {"model": "tiny", "messages": ASK, "n": 3, "stream": True}
    response = await router.http.post("/v1/chat/completions", json=body)
    assert response.text.count('"error"') == 1
    assert "the second broke" in response.text
    assert "[DONE]" not in response.text
    cancelled = {await fake.cancels.get(), await fake.cancels.get()}
    assert {request_id[-2:] for request_id in cancelled} == {"-0", "-2"}


async def test_a_client_that_leaves_cancels_every_choice(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = lambda _: [Say(fake.tokenizer.encode("hello").ids), Wait(asyncio.Event())]
    stream = await router.openai.chat.completions.create(model="tiny", messages=ASK, n=3, stream=True)
    async for _ in stream:
        break
    await stream.close()
    assert len({await fake.cancels.get() for _ in range(3)}) == 3


async def test_a_stop_string_ends_its_own_choice_only(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = lambda call: fake.says("one two" if call.sampling.seed == 5 else "one two three four")(call)
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, n=2, seed=5, stop="three")
    assert [choice.message.content for choice in answer.choices] == ["one two", "one two "]


def test_choices_of_one_seed_do_not_repeat() -> None:
    seeds = [choice_seed(seed, i) for seed in (0, 1, 2**63 - 1) for i in range(16)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)

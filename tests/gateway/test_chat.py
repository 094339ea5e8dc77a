"""Chat completions through the OpenAI SDK, against a router and fake instances on real sockets."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.gateway.fake_instance import FakeInstance, Finish, OnCancel, Say, Wait
from tests.gateway.running_router import CONTEXT_TOKENS, DRAWN_SEED, UNIX_TIME, RunningRouter

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
POEM = "Grüße, 世界! 🎉🚀 ok"


async def collect(router: RunningRouter, **options: Any) -> list[ChatCompletionChunk]:
    stream = await router.openai.chat.completions.create(model="tiny", messages=ASK, stream=True, **options)
    return [chunk async for chunk in stream]


def text_of(chunks: Sequence[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_a_whole_answer(router: RunningRouter) -> None:
    fake = await router.add()
    raw = await router.openai.chat.completions.with_raw_response.create(model="tiny", messages=ASK)
    answer = raw.parse()
    assert answer.id.startswith("chatcmpl-")
    assert raw.headers["x-request-id"] == answer.id == fake.calls[0].request_id
    assert (answer.object, answer.model, answer.created) == ("chat.completion", "tiny", UNIX_TIME)
    assert answer.choices[0].message.content == "hello world"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    prompt, completion = len(router.tokenizer.encode(PROMPT).ids), len(router.tokenizer.encode("hello world").ids)
    assert answer.usage.prompt_tokens == prompt
    assert answer.usage.completion_tokens == completion
    assert answer.usage.total_tokens == prompt + completion
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_defaults_are_those_of_openai(router: RunningRouter) -> None:
    fake = await router.add()
    await router.openai.chat.completions.create(model="tiny", messages=ASK)
    call = fake.calls[0]
    assert list(call.prompt_token_ids) == router.tokenizer.encode(PROMPT).ids
    assert call.sampling.max_tokens == CONTEXT_TOKENS - len(call.prompt_token_ids)
    assert (call.sampling.temperature, call.sampling.top_p) == (1.0, 1.0)
    assert call.sampling.seed == DRAWN_SEED
    assert not call.sampling.ignore_eos
    assert call.deadline_s == pytest.approx(router.config.router.first_token_deadline_s)


async def test_what_the_client_asks_for_reaches_the_instance(router: RunningRouter) -> None:
    fake = await router.add()
    answer = await router.openai.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}],
        max_completion_tokens=3,
        temperature=0,
        top_p=0.25,
        seed=7,
        n=1,
        user="someone",
        extra_body={"ignore_eos": True},
    )
    sampling = fake.calls[0].sampling
    assert list(fake.calls[0].prompt_token_ids) == router.tokenizer.encode(PROMPT).ids
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (3, 0.0, 0.25, 7)
    assert sampling.ignore_eos
    assert answer.choices[0].finish_reason == "length"


async def test_null_means_the_default(router: RunningRouter) -> None:
    fake = await router.add()
    fields = ("max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "n", "user")
    body = {"model": "tiny", "messages": ASK} | dict.fromkeys(fields)
    assert (await router.http.post("/v1/chat/completions", json=body)).status_code == 200
    assert fake.calls[0].sampling.temperature == 1.0


async def test_a_stream_has_role_then_text_then_finish_reason(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = fake.says(POEM)
    chunks = await collect(router)
    first, *_, last = chunks
    assert first.choices[0].delta.role == "assistant"
    assert text_of(chunks) == POEM
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.content is None
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    assert not any("�" in (chunk.choices[0].delta.content or "") for chunk in chunks)


async def test_the_bytes_of_a_stream(router: RunningRouter) -> None:
    await router.add()
    body = {"model": "tiny", "messages": ASK, "stream": True}
    response = await router.http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-request-id"].startswith("chatcmpl-")
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in chunk or "prfaas" in chunk for chunk in chunks)


async def test_the_usage_chunk_comes_last_and_without_choices(router: RunningRouter) -> None:
    fake = await router.add(account={"tokens_reused": 11})
    chunks = await collect(router, stream_options={"include_usage": True})
    *others, last = chunks
    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == len(router.tokenizer.encode("hello world").ids)
    assert last.usage.prompt_tokens == len(fake.calls[0].prompt_token_ids)
    assert last.usage.prompt_tokens_details
    assert last.usage.prompt_tokens_details.cached_tokens == 11
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in others)


async def test_the_first_tokens_arrive_before_the_last_are_made(router: RunningRouter) -> None:
    fake = await router.add()
    go_on = asyncio.Event()
    hello = router.tokenizer.encode("hello").ids
    fake.script = lambda _: [Say(hello), Wait(go_on), Say(hello), Finish()]
    stream = await router.openai.chat.completions.create(model="tiny", messages=ASK, stream=True)
    text = ""
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if text == "hello":
            go_on.set()
    assert text == "hellohello"


def endless(fake: FakeInstance, text: str) -> None:
    never = asyncio.Event()
    fake.script = lambda _: [Say(fake.tokenizer.encode(text).ids), Wait(never)]


async def test_a_stop_string_cancels_at_the_instance(router: RunningRouter) -> None:
    fake = await router.add()
    endless(fake, "one two three")
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, stop="three")
    assert answer.choices[0].message.content == "one two "
    assert await fake.cancels.get() == fake.calls[0].request_id


@pytest.mark.parametrize("on_cancel", ["ignore", "break"])
async def test_a_stop_string_ends_the_answer_also_where_no_account_comes(
    router: RunningRouter, on_cancel: OnCancel
) -> None:
    fake = await router.add(on_cancel=on_cancel)
    endless(fake, "one two three")
    answer = await router.openai.chat.completions.create(
        model="tiny", messages=ASK, stop="three", extra_headers={"x-prfaas-trace": "1"}
    )
    assert answer.choices[0].message.content == "one two "
    assert answer.model_extra
    assert answer.model_extra["prfaas"]["prefill"] is None
    assert answer.model_extra["prfaas"]["decode"] == {"cluster": "home", "instance": "decode-1"}
    assert await fake.abandoned.get() == fake.calls[0].request_id
    assert router.metric("prfaas_router_streams_lost_total", code="peer_lost") == 0


async def test_special_tokens_are_not_shown_but_counted(router: RunningRouter) -> None:
    fake = await router.add()
    end = router.tokenizer.token_to_id("<|im_end|>")
    assert end is not None
    token_ids = [*router.tokenizer.encode("ok").ids, end]
    fake.script = lambda _: [Say(token_ids), Finish("stop")]
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK)
    assert answer.choices[0].message.content == "ok"
    assert answer.usage
    assert answer.usage.completion_tokens == len(token_ids)


async def test_an_unfinished_character_comes_at_the_end(router: RunningRouter) -> None:
    fake = await router.add()
    cut = router.tokenizer.encode("ok 🎉").ids[:-1]
    fake.script = lambda _: [Say(cut), Finish("length")]
    chunks = await collect(router)
    assert text_of(chunks) == router.tokenizer.decode(cut)
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_many_at_once_do_not_mix(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = lambda call: fake.says(f"answer to seed {call.sampling.seed}")(call)

    async def ask(seed: int) -> str:
        return text_of(await collect(router, seed=seed))

    texts = await asyncio.gather(*(ask(seed) for seed in range(20)))
    assert texts == [f"answer to seed {seed}" for seed in range(20)]

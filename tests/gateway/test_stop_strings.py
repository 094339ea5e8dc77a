"""Stop strings end an answer where they begin, whole and streamed."""

from typing import Any

import pytest

from tests.gateway.fake_instance import Finish, Say
from tests.gateway.running_router import RunningRouter
from tests.gateway.test_chat import ASK, collect, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("stop", "expected"),
    [("wor", "hello "), (["zzz", "o w"], "hell"), ("hello", ""), (["rld!", "lo"], "hel"), ("never", "hello world")],
)
async def test_stop_strings(shared_router: RunningRouter, stop: str | list[str], expected: str, streamed: bool) -> None:
    if not shared_router.fakes:
        await shared_router.add(account={"tokens_reused": 5})
    if streamed:
        chunks = await collect(shared_router, stop=stop, stream_options={"include_usage": True})
        text, reason, usage = text_of(chunks), chunks[-2].choices[0].finish_reason, chunks[-1].usage
    else:
        answer = await shared_router.openai.chat.completions.create(model="tiny", messages=ASK, stop=stop)
        text, reason, usage = answer.choices[0].message.content or "", answer.choices[0].finish_reason, answer.usage
    assert (text, reason) == (expected, "stop")
    assert usage
    assert usage.prompt_tokens_details
    assert usage.prompt_tokens_details.cached_tokens == 5


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("logprobs", [False, True])
async def test_a_stop_token_is_no_part_of_the_answer(
    shared_router: RunningRouter, streamed: bool, logprobs: bool
) -> None:
    fake = shared_router.fakes[0] if shared_router.fakes else await shared_router.add()
    before = fake.script
    ids = fake.tokenizer.encode("hello world").ids
    fake.script = lambda _: [Say(ids), Finish("stop")]
    options: dict[str, Any] = {"stop_token_ids": [ids[-1]]}
    expected = fake.tokenizer.decode(ids[:-1])
    if streamed:
        chunks = await collect(shared_router, logprobs=logprobs, extra_body=options)
        text, reason = text_of(chunks), chunks[-1].choices[0].finish_reason
        told = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content or ()]
    else:
        answer = await shared_router.openai.chat.completions.create(
            model="tiny", messages=ASK, logprobs=logprobs, extra_body=options
        )
        choice = answer.choices[0]
        text, reason = choice.message.content or "", choice.finish_reason
        told = list(choice.logprobs.content or ()) if choice.logprobs else []
    fake.script = before
    assert (text, reason) == (expected, "stop")
    assert len(told) == (len(ids) if logprobs else 0), "its logprob is still told"

"""Stop strings end an answer where they begin, whole and streamed."""

import pytest

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

"""Text completions and models through the OpenAI SDK."""

import openai
import pytest

from tests.gateway.running_router import UNIX_TIME, RunningRouter


async def test_a_whole_answer(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = fake.says("x" * 50)
    answer = await router.openai.completions.create(model="tiny", prompt="once upon")
    assert (answer.object, answer.created) == ("text_completion", UNIX_TIME)
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text == "x" * 16, "OpenAI's default is 16 tokens"
    assert answer.choices[0].finish_reason == "length"
    assert fake.calls[0].sampling.max_tokens == 16
    assert list(fake.calls[0].prompt_token_ids) == router.tokenizer.encode("once upon").ids
    assert answer.usage
    assert answer.usage.completion_tokens == 16


async def test_a_prompt_of_token_ids_goes_through_unchanged(router: RunningRouter) -> None:
    fake = await router.add()
    await router.openai.completions.create(model="tiny", prompt=[5, 250, 7], max_tokens=8)
    assert list(fake.calls[0].prompt_token_ids) == [5, 250, 7]


async def test_a_long_prompt_is_encoded_like_a_short_one(router: RunningRouter) -> None:
    fake = await router.add()
    text = "the quick brown fox " * 500
    with pytest.raises(openai.BadRequestError) as refused:
        await router.openai.completions.create(model="tiny", prompt=text)
    assert str(len(router.tokenizer.encode(text).ids)) in refused.value.message
    assert not fake.calls


async def test_a_stream(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = fake.says("héllo 🎉")
    stream = await router.openai.completions.create(
        model="tiny", prompt="a", max_tokens=100, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "héllo 🎉"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.prompt_tokens == 1


async def test_models(router: RunningRouter) -> None:
    listed = await router.openai.models.list()
    assert [model.id for model in listed.data] == ["tiny"]
    assert (await router.openai.models.retrieve("tiny")).owned_by == "prfaas"
    with pytest.raises(openai.NotFoundError) as refused:
        await router.openai.models.retrieve("org/other")
    assert refused.value.code == "model_not_found"


async def test_an_unknown_model(router: RunningRouter) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await router.openai.completions.create(model="gpt-x", prompt="a")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "gpt-x" in refused.value.message
    assert refused.value.type == "invalid_request_error"

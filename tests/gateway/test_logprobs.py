"""Logprobs in both shapes, whole and streamed, in step with the text whatever is held back or cut."""

import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.logprobs import TokenLogprobs
from prfaas.gateway.alignment import Alignment, ScoredToken
from prfaas.gateway.detokenize import Detokenizer
from prfaas.gateway.token_bytes import TokenBytes
from prfaas.gateway.whole_tokens import WholeTokens
from tests.gateway import tiny_model
from tests.gateway.fake_instance import Finish, Say
from tests.gateway.running_router import RunningRouter
from tests.gateway.test_bad_requests import error_of
from tests.gateway.test_chat import ASK

TOKENIZER = tiny_model.train()
NUM_IDS = TOKENIZER.get_vocab_size(with_added_tokens=True)
TABLE = TokenBytes(TOKENIZER)
POEM = "Grüße, 世界! 🎉🚀 ok"


def joined(tokens: list[Any]) -> bytes:
    return b"".join(bytes(token.bytes or []) for token in tokens)


async def test_a_chat(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = fake.says(POEM)
    answer = await router.openai.chat.completions.create(
        model="tiny", messages=ASK, logprobs=True, top_logprobs=3, max_tokens=90
    )
    assert fake.calls[0].sampling.logprobs == 3
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    ids = router.tokenizer.encode(POEM).ids
    assert len(logprobs.content) == len(ids)
    assert joined(logprobs.content).decode() == POEM
    first = logprobs.content[0]
    assert (first.token, first.logprob) == ("G", -1.5)
    assert [top.logprob for top in first.top_logprobs] == [-0.5, -1.5, -2.5]
    assert [top.token for top in first.top_logprobs][1] == "G"


async def test_without_top_logprobs_there_are_no_alternatives(router: RunningRouter) -> None:
    fake = await router.add()
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, logprobs=True)
    assert fake.calls[0].sampling.HasField("logprobs")
    assert answer.choices[0].logprobs
    assert answer.choices[0].logprobs.content
    assert all(token.top_logprobs == [] for token in answer.choices[0].logprobs.content)


@pytest.mark.parametrize("options", [{}, {"logprobs": False}])
async def test_who_asks_for_none_gets_none(router: RunningRouter, options: dict[str, Any]) -> None:
    fake = await router.add()
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, **options)
    assert answer.choices[0].logprobs is None
    assert not fake.calls[0].sampling.HasField("logprobs")


async def test_every_chunk_of_a_chat_has_the_logprobs_of_its_text(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = fake.says(POEM)
    stream = await router.openai.chat.completions.create(
        model="tiny", messages=ASK, logprobs=True, top_logprobs=1, stream=True, max_tokens=90
    )
    count = 0
    async for chunk in stream:
        (choice,) = chunk.choices
        text = choice.delta.content or ""
        tokens = choice.logprobs.content or [] if choice.logprobs else []
        assert joined(tokens).decode() == text, "a byte-level tokenizer's tokens make up the text exactly"
        count += len(tokens)
    assert count == len(router.tokenizer.encode(POEM).ids)


async def test_a_stop_string_cuts_logprobs_where_it_cuts_the_text(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = fake.says("hello wonderful world")
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, logprobs=True, stop="derf")
    assert answer.choices[0].message.content == "hello won"
    assert answer.choices[0].logprobs
    tokens = answer.choices[0].logprobs.content or []
    assert joined(tokens).decode().startswith("hello won")
    assert len(joined(tokens[:-1])) < len("hello won"), "only the last token may reach beyond the cut"


async def test_eos_is_told_without_bytes(router: RunningRouter) -> None:
    fake = await router.add()
    eos = router.tokenizer.token_to_id("<|im_end|>")
    assert eos is not None
    ids = [*router.tokenizer.encode("ok").ids, eos]
    fake.script = lambda _: [Say(ids), Finish("stop")]
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK, logprobs=True)
    assert answer.choices[0].logprobs
    *_, last = answer.choices[0].logprobs.content or []
    assert (last.token, last.bytes) == ("<|im_end|>", None)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_text_completion(router: RunningRouter, streamed: bool) -> None:
    fake = await router.add()
    fake.script = fake.says(POEM)
    body = {"model": "tiny", "prompt": "a", "logprobs": 2, "max_tokens": 90, "stream": streamed}
    response = await router.http.post("/v1/completions", json=body)
    if streamed:
        events = response.text.split("\n\n")[:-2]
        choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    else:
        choices = response.json()["choices"]
    parts = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    merged = {key: [value for part in parts for value in part[key]] for key in parts[0]}
    ids = router.tokenizer.encode(POEM).ids
    assert {key: len(values) for key, values in merged.items()} == dict.fromkeys(merged, len(ids))
    assert set(merged) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert merged["token_logprobs"] == [-1.5] * len(ids)
    assert all(name in top for name, top in zip(merged["tokens"], merged["top_logprobs"], strict=True))
    assert all(len(top) == 2 for top in merged["top_logprobs"])
    assert "bytes:\\xe4" in merged["tokens"]
    for name, offset in zip(merged["tokens"], merged["text_offset"], strict=True):
        if not name.startswith("bytes:"):
            assert POEM[offset:].startswith(name)


async def test_zero_logprobs_of_a_text_tell_the_drawn_token(router: RunningRouter) -> None:
    await router.add()
    answer = await router.openai.completions.create(model="tiny", prompt="a", logprobs=0)
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.tokens
    assert logprobs.top_logprobs == [{token: -1.5} for token in logprobs.tokens]


async def test_an_instance_that_forgets_them_fails_the_answer(router: RunningRouter) -> None:
    await router.add(forgets_logprobs=True)
    with pytest.raises(openai.InternalServerError, match="without the logprobs"):
        await router.openai.chat.completions.create(model="tiny", messages=ASK, logprobs=True)


async def test_a_prompt_is_computed_where_its_logprobs_are(router: RunningRouter) -> None:
    fake = await router.add()
    await router.add("prefill-far", role=pb.ROLE_PREFILL, cluster="far")
    body = {"model": "tiny", "prompt": list(range(5, 250)), "max_tokens": 5}
    for logprobs, remote in ((None, True), (1, False)):
        await router.http.post("/v1/completions", json=body | {"logprobs": logprobs})
        assert fake.calls[-1].HasField("prefill") is remote
    headers = {"x-prfaas-prefill": "remote"}
    response = await router.http.post("/v1/completions", json=body | {"logprobs": 1}, headers=headers)
    assert error_of(response, 400)["param"] == "x-prfaas-prefill"


def scored(ids: list[int], stop_strings: list[str]) -> tuple[list[tuple[str, list[ScoredToken]]], bool]:
    """(text, tokens) of each step of an answer, and whether a stop string ended it."""
    detokenizer, alignment = Detokenizer(TOKENIZER, WholeTokens(TOKENIZER), stop_strings), Alignment()
    steps = []
    for token_id in ids:
        alignment.push(token_id, detokenizer.decoded_chars, TokenLogprobs(-1.0))
        text = detokenizer.push(token_id)
        steps.append((text, list(alignment.show(text))))
        if detokenizer.stopped:
            return steps, True
    text = detokenizer.flush()
    tokens = list(alignment.show(text))
    steps.append((text, tokens if detokenizer.stopped else [*tokens, *alignment.rest()]))
    return steps, detokenizer.stopped


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, NUM_IDS + 3), max_size=60)
    | st.text("aé🎉 世h", max_size=20).map(lambda t: TOKENIZER.encode(t).ids),
    st.lists(st.text("aé🎉 hello", min_size=1, max_size=3), max_size=3),
)
def test_tokens_stay_with_their_text(ids: list[int], stop_strings: list[str]) -> None:
    steps, stopped = scored(ids, stop_strings)
    text = "".join(piece for piece, _ in steps)
    told = [token for _, tokens in steps for token in tokens]
    assert [token.token_id for token in told] == ids[: len(told)], "in order, none left out"
    assert stopped or len(told) == len(ids)
    shown = 0
    for piece, tokens in steps:
        assert all(token.offset <= shown + len(piece) for token in tokens), "never before its text"
        shown += len(piece)
    raw = b"".join(TABLE.of(token.token_id) or b"" for token in told).decode("utf-8", "replace")
    if not stopped:
        assert raw == text
    elif "�" not in raw:
        assert raw.startswith(text)
        if told and text:
            assert told[-1].offset < len(text), "a token that was cut off entirely is not told"

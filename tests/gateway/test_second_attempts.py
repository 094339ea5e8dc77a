"""Requests that are placed twice: answers that go on elsewhere, a budget, and hedges."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import EngineError, RequestError
from prfaas.gateway.retry_budget import SPARE
from tests.gateway.fake_instance import Abort, Fail, FakeInstance, Finish, Say, Script, Step, Wait
from tests.gateway.running_router import RunningRouter, eventually, running_router

BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
LONG_BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "the quick brown fox " * 60}]}
TRACED = {"x-prfaas-trace": "1"}


async def post(router: RunningRouter, body: dict[str, Any] = BODY, **headers: str) -> httpx2.Response:
    return await router.http.post("/v1/chat/completions", json=body, headers=TRACED | headers)


def content(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def begins(fake: FakeInstance, text: str, then: Step) -> Script:
    """So begins an answer that does not end here."""
    return lambda _: [Say(fake.tokenizer.encode(text).ids), then]


def goes_on(fake: FakeInstance, text: str) -> Script:
    """Says the rest of `text`, whatever of it has been said."""

    def script(request: pb.GenerateRequest) -> list[Step]:
        rest = fake.tokenizer.encode(text).ids[request.sampling.answered_tokens :]
        return [Say(rest[: request.sampling.max_tokens]), Finish()]

    return script


BREAKS = [Fail(EngineError("late trouble")), Abort(grpc.StatusCode.UNAVAILABLE), Finish("cancelled")]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("breaks", BREAKS, ids=["failed", "lost", "cut"])
async def test_an_answer_that_has_begun_goes_on_elsewhere(router: RunningRouter, breaks: Step, streamed: bool) -> None:
    first, second = await router.add("decode-1"), await router.add("decode-2")
    first.script, second.script = begins(first, "hello", breaks), goes_on(second, "hello world")
    rules = {"max_tokens": 20, "seed": 9, "min_tokens": 4, "frequency_penalty": 0.5, "stream": streamed}
    response = await post(router, BODY | rules)
    if streamed:
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        assert not any("error" in chunk for chunk in chunks)
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    else:
        text = content(response)
        usage = response.json()["usage"]
        assert usage["completion_tokens"] == len(router.tokenizer.encode("hello world").ids)
        assert usage["prompt_tokens"] == len(first.calls[0].prompt_token_ids)
    assert text == "hello world"
    (before,), (after,) = first.calls, second.calls
    said = router.tokenizer.encode("hello").ids
    assert list(after.prompt_token_ids) == [*before.prompt_token_ids, *said]
    assert after.sampling.answered_tokens == len(said)
    assert after.sampling.max_tokens == 20 - len(said)
    assert after.sampling.min_tokens == 4 - len(said)
    assert (after.sampling.seed, after.sampling.frequency_penalty) == (9, 0.5)
    assert after.request_id != before.request_id
    assert router.metric("prfaas_router_continued_total") == 1


async def test_it_goes_on_once(router: RunningRouter) -> None:
    """A request may be what its instances die of."""
    fakes = [await router.add(f"decode-{i}") for i in range(3)]
    for fake in fakes:
        fake.script = begins(fake, "hello", Abort(grpc.StatusCode.UNAVAILABLE))
    response = await post(router)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "peer_lost")
    assert [len(fake.calls) for fake in fakes] == [1, 1, 0]


@pytest.mark.parametrize("breaks", [Fail(RequestError("no")), Fail(EngineError("late"))])
async def test_what_cannot_go_on_ends_with_the_error(router: RunningRouter, breaks: Fail) -> None:
    """A mistake of the client's; and an answer of which all tokens came."""
    first, second = await router.add("decode-1"), await router.add("decode-2")
    first.script = begins(first, "hello", breaks)
    all_of_it = len(first.tokenizer.encode("hello").ids)
    response = await post(router, BODY | {"max_tokens": all_of_it})
    assert response.json()["error"]["code"] == breaks.error.code
    assert not second.calls


async def test_the_due_time_of_the_first_token_binds_no_answer_that_has_begun(router: RunningRouter) -> None:
    first, second = await router.add("decode-1"), await router.add("decode-2")

    def late(_: pb.GenerateRequest) -> list[Step]:
        router.clock.now_s += router.config.router.first_token_deadline_s * 2
        return [Say(first.tokenizer.encode("hello").ids), Wait(go_on), Abort(grpc.StatusCode.UNAVAILABLE)]

    go_on = asyncio.Event()
    first.script, second.script = late, goes_on(second, "hello world")
    asking = asyncio.create_task(post(router))
    await first.started.wait()
    await eventually(lambda: router.metric("vllm:time_to_first_token_seconds_count") == 1)
    await router.heartbeat(second)
    go_on.set()
    assert content(await asking) == "hello world"
    assert second.calls[0].deadline_s == pytest.approx(router.config.router.first_token_deadline_s)


async def test_a_fleet_that_fails_gets_little_more_than_its_load(model: Path) -> None:
    async with running_router(model, retry_budget=0.1) as router:
        fakes = [await router.add(f"decode-{i}", script=lambda _: [Fail(EngineError("broken"))]) for i in range(3)]
        answers = [await post(router) for _ in range(60)]
        assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(500, "engine_failed")}
        again = sum(len(fake.calls) for fake in fakes) - len(answers)
        assert again == SPARE + 6
        assert router.metric("prfaas_router_retries_total", code="engine_failed") == again
        assert router.metric("prfaas_router_retries_refused_total", kind="retry") == 60 - again


@pytest.fixture
async def hedging(model: Path) -> AsyncIterator[RunningRouter]:
    async with running_router(model, hedge_after_s=0.02) as router:
        yield router


def hedged(router: RunningRouter) -> tuple[float, float]:
    """So many, and of them so many that the second attempt answered."""
    return router.metric("prfaas_router_hedges_total"), router.metric("prfaas_router_hedges_won_total")


async def test_a_slow_first_token_is_asked_for_elsewhere(hedging: RunningRouter) -> None:
    first, second = await hedging.add("decode-1"), await hedging.add("decode-2")
    first.script = lambda _: [Wait(asyncio.Event())]
    response = await post(hedging)
    assert content(response) == "hello world"
    assert response.json()["prfaas"]["decode"]["instance"] == "decode-2"
    assert hedged(hedging) == (1, 1)
    assert await first.cancels.get() == first.calls[0].request_id
    assert await first.abandoned.get() == first.calls[0].request_id, "nobody wants its account"
    assert second.calls[0].request_id == f"{first.calls[0].request_id}.2"
    assert second.cancels.empty()


async def test_the_first_attempt_may_still_win(hedging: RunningRouter) -> None:
    first, second = await hedging.add("decode-1"), await hedging.add("decode-2")
    go_on = asyncio.Event()
    first.script = lambda _: [Wait(go_on), Say(first.tokenizer.encode("slow").ids), Finish()]
    second.script = lambda _: [Wait(asyncio.Event())]
    asking = asyncio.create_task(post(hedging))
    await second.started.wait()
    go_on.set()
    assert content(await asking) == "slow"
    assert hedged(hedging) == (1, 0)
    assert await second.abandoned.get() == second.calls[0].request_id


@pytest.mark.parametrize("failing", [0, 1])
async def test_one_of_two_may_fail(hedging: RunningRouter, failing: int) -> None:
    fakes = [await hedging.add("decode-1"), await hedging.add("decode-2")]
    go_on, fail = asyncio.Event(), asyncio.Event()
    fakes[failing].script = lambda _: [Wait(fail), Fail(EngineError("broken"))]
    other = fakes[1 - failing]
    other.script = lambda _: [Wait(go_on), Say(other.tokenizer.encode("hello").ids), Finish()]
    asking = asyncio.create_task(post(hedging))
    await fakes[1].started.wait()
    fail.set()
    await eventually(lambda: hedging.registry.outstanding == 1)
    go_on.set()
    assert content(await asking) == "hello"
    assert hedging.metric("prfaas_router_retries_total", code="engine_failed") == 0


async def test_where_both_fail_the_first_ones_error_is_told(hedging: RunningRouter) -> None:
    first, second = await hedging.add("decode-1"), await hedging.add("decode-2")
    third = await hedging.add("decode-3")
    fail = asyncio.Event()
    first.script = lambda _: [Wait(fail), Fail(EngineError("the first is broken"))]
    second.script = lambda _: [Fail(EngineError("the second is broken"))]
    asking = asyncio.create_task(post(hedging))
    await second.started.wait()
    fail.set()
    assert "the first is broken" in (await asking).text
    assert not third.calls, "it was placed twice"


async def test_a_client_that_leaves_cancels_both(hedging: RunningRouter) -> None:
    fakes = [await hedging.add("decode-1"), await hedging.add("decode-2")]
    for fake in fakes:
        fake.script = lambda _: [Wait(asyncio.Event())]
    asking = asyncio.create_task(post(hedging))
    await fakes[1].started.wait()
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(5):
        for fake in fakes:
            assert await fake.abandoned.get() == fake.calls[0].request_id


async def test_the_second_attempt_shares_no_prefill_instance(hedging: RunningRouter) -> None:
    for i in (1, 2):
        await hedging.add(f"prefill-{i}", role=pb.ROLE_PREFILL)
    first, second = await hedging.add("decode-1"), await hedging.add("decode-2")
    first.script = lambda _: [Wait(asyncio.Event())]
    assert (await post(hedging, LONG_BODY)).status_code == 200
    (one,), (other,) = first.calls, second.calls
    assert {one.prefill.instance_id, other.prefill.instance_id} == {"prefill-1", "prefill-2"}


@pytest.mark.parametrize(
    ("body", "headers"), [({"n": 2}, {}), ({}, {"x-prfaas-priority": "batch"})], ids=["choices", "batch"]
)
async def test_what_is_not_hedged(hedging: RunningRouter, body: dict[str, Any], headers: dict[str, str]) -> None:
    first, second = await hedging.add("decode-1"), await hedging.add("decode-2")
    go_on = asyncio.Event()
    for fake in (first, second):
        fake.script = lambda _: [Wait(go_on), Say(first.tokenizer.encode("hello").ids), Finish()]
    asking = asyncio.create_task(post(hedging, BODY | body, **headers))
    await first.started.wait()
    await asyncio.sleep(0.1)
    assert len(first.calls) + len(second.calls) == body.get("n", 1)
    go_on.set()
    assert (await asking).status_code == 200
    assert hedged(hedging) == (0, 0)


async def test_with_one_instance_the_answer_is_waited_for(hedging: RunningRouter) -> None:
    first = await hedging.add("decode-1")
    go_on = asyncio.Event()
    first.script = lambda _: [Wait(go_on), Say(first.tokenizer.encode("hello").ids), Finish()]
    asking = asyncio.create_task(post(hedging))
    await first.started.wait()
    await asyncio.sleep(0.1)
    go_on.set()
    assert content(await asking) == "hello"
    assert (len(first.calls), hedged(hedging)) == (1, (0, 0))


async def test_hedges_stay_within_the_budget(model: Path) -> None:
    async with running_router(model, hedge_after_s=0.02, retry_budget=0.0) as router:
        first, second = await router.add("decode-1"), await router.add("decode-2")
        go_on = asyncio.Event()
        for fake in (first, second):
            fake.script = lambda _: [Wait(go_on), Say(first.tokenizer.encode("hello").ids), Finish()]
        asking = [asyncio.create_task(post(router)) for _ in range(SPARE + 5)]
        await eventually(lambda: router.metric("prfaas_router_retries_refused_total", kind="hedge") == 5)
        await eventually(lambda: len(first.calls) + len(second.calls) == 2 * SPARE + 5)
        go_on.set()
        assert {content(await each) for each in asking} == {"hello"}

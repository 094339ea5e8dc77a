"""What clients see when instances fail: one more placement, or an honest error."""

import asyncio
import json
import logging
import socket
from typing import Any

import grpc
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import (
    CapacityError,
    ContextLengthError,
    DeadlineError,
    DigestError,
    DrainingError,
    EngineError,
    PrfaasError,
    RequestError,
)
from tests.gateway.fake_instance import Abort, Fail, FakeInstance, Say, Script, Wait
from tests.gateway.running_router import RunningRouter, eventually

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
BODY = {"model": "tiny", "messages": ASK}


def fails(error: PrfaasError) -> Script:
    return lambda _: [Fail(error)]


async def ask(router: RunningRouter) -> str | None:
    answer = await router.openai.chat.completions.create(model="tiny", messages=ASK)
    return answer.choices[0].message.content


async def two_decodes(router: RunningRouter) -> tuple[FakeInstance, FakeInstance]:
    """Equal loads, so the first name is placed first."""
    return await router.add("decode-1"), await router.add("decode-2")


async def test_a_lost_peer_is_replaced_before_the_first_token(
    router: RunningRouter, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await two_decodes(router)
    await first.stop()
    with caplog.at_level(logging.WARNING):
        assert await ask(router) == "hello world"
    assert len(second.calls) == 1
    assert router.metric("prfaas_router_retries_total", code="peer_lost") == 1
    assert any("decode-1" in r.message and "placed again" in r.message for r in caplog.records)


async def test_an_instance_that_dies_under_the_request_is_replaced(router: RunningRouter) -> None:
    first, second = await two_decodes(router)
    first.script = lambda _: [Wait(asyncio.Event())]
    asking = asyncio.create_task(ask(router))
    await first.started.wait()
    await first.stop()
    assert await asking == "hello world"
    assert len(second.calls) == 1


async def test_the_second_attempt_continues_equally(router: RunningRouter) -> None:
    first, second = await two_decodes(router)
    first.script = fails(EngineError("out of luck"))
    await ask(router)
    (before,), (after,) = first.calls, second.calls
    assert before.sampling == after.sampling
    assert before.prompt_token_ids == after.prompt_token_ids
    assert before.request_id != after.request_id, "a prefill instance may still know the first attempt"
    assert after.request_id.startswith(before.request_id)


@pytest.mark.parametrize(
    "error", [EngineError("e"), DrainingError("d"), CapacityError("c"), ContextLengthError("l"), DigestError("x")]
)
async def test_what_another_instance_may_manage_is_tried_there(router: RunningRouter, error: PrfaasError) -> None:
    first, second = await two_decodes(router)
    first.script = fails(error)
    assert await ask(router) == "hello world"
    assert len(second.calls) == 1
    assert router.metric("prfaas_router_retries_total", code=error.code) == 1


async def test_the_clients_own_mistakes_are_not_retried(router: RunningRouter) -> None:
    first, second = await two_decodes(router)
    first.script = fails(RequestError("no"))
    with pytest.raises(openai.BadRequestError):
        await ask(router)
    assert not second.calls


async def test_there_are_two_attempts_and_no_more(router: RunningRouter) -> None:
    fakes = [*await two_decodes(router), await router.add("decode-3")]
    for fake in fakes:
        fake.script = fails(EngineError(f"{fake.name} is broken"))
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(router)
    assert [len(fake.calls) for fake in fakes] == [1, 1, 0]
    assert "decode-2 is broken" in failed.value.message
    assert failed.value.status_code == 500
    assert failed.value.code == "engine_failed"
    assert router.metric("prfaas_router_failures_total", code="engine_failed") == 1


async def test_nobody_there(router: RunningRouter) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(router)
    assert failed.value.status_code == 503
    assert failed.value.code == "unavailable"
    assert failed.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("last", "code"),
    [(Fail(EngineError("late trouble")), "engine_failed"), (Abort(grpc.StatusCode.UNAVAILABLE), "peer_lost")],
)
async def test_where_nobody_can_go_on_a_stream_ends_with_the_error(
    router: RunningRouter, last: Fail | Abort, code: str
) -> None:
    first = await router.add()
    first.script = lambda _: [Say(first.tokenizer.encode("hello").ids), last]
    response = await router.http.post("/v1/chat/completions", json=BODY | {"stream": True})
    assert response.status_code == 200
    *events, error, rest = response.text.split("\n\n")
    assert rest == ""
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == code
    text = "".join(json.loads(e.removeprefix("data: "))["choices"][0]["delta"]["content"] for e in events)
    assert text == "hello"
    assert router.metric("prfaas_router_failures_total", code=code) == 1


async def test_the_sdk_raises_the_error_of_a_stream(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = lambda _: [Say(fake.tokenizer.encode("hello").ids), Fail(EngineError("late trouble"))]
    stream = await router.openai.chat.completions.create(model="tiny", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="late trouble"):
        async for _ in stream:
            pass


async def test_where_nobody_can_go_on_a_whole_answer_fails(router: RunningRouter) -> None:
    first = await router.add()
    first.script = lambda _: [Say(first.tokenizer.encode("hello").ids), Fail(EngineError("late trouble"))]
    with pytest.raises(openai.InternalServerError):
        await ask(router)


async def test_a_failed_attempt_is_cancelled_at_its_instance(router: RunningRouter) -> None:
    first, _ = await two_decodes(router)
    first.script = lambda _: [Abort(grpc.StatusCode.UNAVAILABLE)]
    await ask(router)
    assert await first.cancels.get() == first.calls[0].request_id


async def test_the_deadline_left_is_passed_on(router: RunningRouter) -> None:
    first, second = await two_decodes(router)

    def slow(_: pb.GenerateRequest) -> list[Fail]:
        router.clock.now_s += 20
        return [Fail(EngineError("slow"))]

    first.script = slow
    await router.heartbeat(second)
    asking = asyncio.create_task(ask(router))
    await asking
    deadline_s = router.config.router.first_token_deadline_s
    assert second.calls[0].deadline_s == pytest.approx(deadline_s - 20)


async def test_no_second_attempt_after_the_deadline(router: RunningRouter) -> None:
    first, second = await two_decodes(router)

    def too_slow(_: pb.GenerateRequest) -> list[Fail]:
        router.clock.now_s += router.config.router.first_token_deadline_s
        return [Fail(DeadlineError("no first token"))]

    first.script = too_slow
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(router)
    assert failed.value.status_code == 504
    assert not second.calls


async def test_an_instance_that_hangs_is_given_up_after_the_deadline(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prfaas.gateway.generate_call.DEADLINE_GRACE_S", 0.05)
    monkeypatch.setattr(router.dispatcher, "first_token_deadline_s", 0.05)
    fake = await router.add(script=lambda _: [Wait(asyncio.Event())])
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(router)
    assert failed.value.status_code == 504
    assert await fake.cancels.get() == fake.calls[0].request_id


async def never_ending(router: RunningRouter) -> FakeInstance:
    fake = await router.add()
    fake.script = lambda _: [Say(fake.tokenizer.encode("hello").ids), Wait(asyncio.Event())]
    return fake


async def given_up(router: RunningRouter, fake: FakeInstance) -> None:
    """Waits until the instance noticed, on both ways."""
    async with asyncio.timeout(5):
        assert await fake.cancels.get() == fake.calls[0].request_id
    await router.dispatcher.calls.close()
    assert router.metric("prfaas_router_client_disconnects_total") == 1
    assert router.metric("prfaas_router_requests_in_flight") == 0


async def test_a_client_that_leaves_a_stream_cancels_everywhere(router: RunningRouter) -> None:
    fake = await never_ending(router)
    stream = await router.openai.chat.completions.create(model="tiny", messages=ASK, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await given_up(router, fake)


async def test_a_client_that_leaves_before_the_first_token_cancels_everywhere(router: RunningRouter) -> None:
    fake = await router.add(script=lambda _: [Wait(asyncio.Event())])
    asking = asyncio.create_task(router.http.post("/v1/chat/completions", json=BODY | {"stream": True}))
    await fake.started.wait()
    asking.cancel()
    await asyncio.wait([asking])
    await given_up(router, fake)


async def test_a_client_that_leaves_a_whole_answer_cancels_everywhere(router: RunningRouter) -> None:
    fake = await never_ending(router)
    asking = asyncio.create_task(router.http.post("/v1/chat/completions", json=BODY))
    await fake.started.wait()
    asking.cancel()
    await asyncio.wait([asking])
    await given_up(router, fake)
    assert router.metric("prfaas_router_requests_total", endpoint="/v1/chat/completions", status="499") == 1


async def test_a_client_that_leaves_wants_no_account(router: RunningRouter) -> None:
    fake = await never_ending(router)
    stream = await router.openai.chat.completions.create(model="tiny", messages=ASK, stream=True)
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(5):
        assert await fake.abandoned.get() == fake.calls[0].request_id


async def test_a_client_that_leaves_while_sending_its_body(router: RunningRouter) -> None:
    host, port = router.server.http_address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await eventually(lambda: router.metric("prfaas_router_requests_in_flight") == 1)
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: router.metric("prfaas_router_requests_in_flight") == 0)
    assert router.metric("prfaas_router_client_disconnects_total") == 1


async def test_an_address_where_nothing_ever_listened(router: RunningRouter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    ghost = FakeInstance("decode-0", router.tokenizer, address=address)
    await router.register(ghost)
    await router.add("decode-1")
    assert await ask(router) == "hello world"


async def test_a_bug_of_ours_is_answered_in_form(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(router.dispatcher, "place", broken)
    response: httpx2.Response = await router.http.post("/v1/chat/completions", json=BODY)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (500, "internal", "server_error")
    assert "secret" not in error["message"]
    assert response.headers["x-request-id"] in error["message"]
    assert any(r.exc_info and "unhandled" in r.message for r in caplog.records)


async def test_a_bug_of_ours_in_a_stream_ends_it_with_an_error(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await router.add()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("prfaas.gateway.choices.Choices.usage", broken)
    response = await router.http.post("/v1/chat/completions", json=BODY | {"stream": True})
    *_, last, rest = response.text.split("\n\n")
    assert rest == ""
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "internal"
    assert "secret" not in response.text

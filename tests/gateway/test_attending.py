"""One stream from a router to an instance, for all its requests: kept, lost, opened again, closed."""

import asyncio
import json
import socket
from typing import Any

import grpc
import httpx2
import pytest

from tests.gateway.fake_instance import Abort, FakeInstance, Say, Wait
from tests.gateway.running_router import RunningRouter, eventually

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
LOST = "prfaas_router_streams_lost_total"


async def post(router: RunningRouter, **changes: Any) -> httpx2.Response:
    return await router.http.post("/v1/chat/completions", json=BODY | changes)


async def test_all_requests_of_a_router_share_a_stream(router: RunningRouter) -> None:
    fake = await router.add()
    answers = await asyncio.gather(*(post(router) for _ in range(20)))
    answers.append(await post(router))
    assert {answer.status_code for answer in answers} == {200}
    assert (fake.num_streams, len(fake.calls)) == (1, 21)


async def test_a_lost_stream_fails_all_its_requests_and_is_opened_again(router: RunningRouter) -> None:
    fake = await router.add()
    fake.script = lambda _: [Wait(asyncio.Event())] if len(fake.calls) < 3 else [Abort(grpc.StatusCode.UNAVAILABLE)]
    lost = await asyncio.gather(*(post(router) for _ in range(3)))
    assert [answer.json()["error"]["code"] for answer in lost] == ["peer_lost"] * 3
    fake.script = None
    assert (await post(router)).status_code == 200
    assert fake.num_streams == 2
    assert router.metric(LOST, code="peer_lost") == 1
    async with asyncio.timeout(5):
        cancelled = {await fake.cancels.get() for _ in range(3)}
    assert cancelled == {call.request_id for call in fake.calls[:3]}, "the way alone may have been lost"


async def test_a_client_that_does_not_read_holds_up_nobody(router: RunningRouter) -> None:
    fake = await router.add()
    long = router.tokenizer.encode("the quick brown fox " * 400).ids[:1500]
    never = asyncio.Event()
    fake.script = lambda call: [Say(long), Wait(never)] if call.sampling.max_tokens > 1000 else fake.says("hi")(call)
    host, port = router.server.http_address.split(":")
    # Its buffers hold but a few of a thousand chunks with logprobs.
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=small, limit=1024)
    more = {"stream": True, "max_tokens": 1600, "logprobs": True, "top_logprobs": 20}
    body = json.dumps(BODY | more).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await reader.readuntil(b"\r\n\r\n")
    answers = await asyncio.gather(*(post(router, max_tokens=9) for _ in range(5)))
    assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == ["hi"] * 5
    heard = b""
    async with asyncio.timeout(20):
        while heard.count(b'"delta":{"content"') < len(long):
            heard += await reader.read(1 << 16)
    writer.close()
    assert fake.num_streams == 1


async def test_an_engine_that_hangs_after_a_token_is_given_up(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prfaas.gateway.generate_call.TOKEN_GAP_S", 0.05)
    monkeypatch.setattr("prfaas.gateway.generate_call.DEADLINE_GRACE_S", 0.05)
    monkeypatch.setattr(router.dispatcher, "first_token_deadline_s", 0.05)
    fake = await router.add()
    fake.script = lambda _: [Say(fake.tokenizer.encode("hello").ids), Wait(asyncio.Event())]
    assert (await post(router)).json()["error"]["code"] == "deadline_exceeded"
    async with asyncio.timeout(5):
        assert await fake.abandoned.get() == fake.calls[0].request_id


async def idle(fake: FakeInstance) -> None:
    await eventually(lambda: fake.open_streams == 0)


async def test_the_stream_to_an_instance_that_left_is_closed_once_it_is_idle(router: RunningRouter) -> None:
    fake = await router.add()
    await post(router)
    assert fake.open_streams == 1
    await router.dispatcher.prune()
    assert fake.open_streams == 1, "it is still in the fleet"
    await router.dispatcher.calls.prune(frozenset())
    await idle(fake)
    assert router.metric(LOST, code="cancelled") == 0
    assert (await post(router)).status_code == 200


async def test_newer_certificates_take_another_stream_and_the_older_one_ends_with_its_requests(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = await router.add()
    go_on = asyncio.Event()
    fake.script = lambda _: [Say(fake.tokenizer.encode("hello").ids), Wait(go_on), *fake.says(" world")(_)]
    running = asyncio.create_task(post(router, max_tokens=90))
    await fake.started.wait()
    async with grpc.aio.insecure_channel(fake.address) as newer:
        monkeypatch.setattr(router.dispatcher.calls._dialer, "channel", lambda *_: newer)
        fake.script = None
        assert (await post(router)).status_code == 200
        assert fake.open_streams == 2
        go_on.set()
        assert (await running).json()["choices"][0]["message"]["content"] == "hello world"
        await eventually(lambda: fake.open_streams == 1)
        await router.dispatcher.calls.close()
        await idle(fake)


async def test_a_router_that_stops_closes_its_streams(router: RunningRouter) -> None:
    fake = await router.add()
    await post(router)
    await router.dispatcher.calls.close()
    await idle(fake)


@pytest.mark.parametrize("stream", [False, True])
async def test_more_tokens_than_were_asked_for_end_the_request(router: RunningRouter, stream: bool) -> None:
    fake = await router.add(says_too_much=True)
    never = asyncio.Event()
    fake.script = lambda _: [Say([5, 6, 7, 8]), Wait(never)]
    answer = await post(router, max_tokens=3, stream=stream)
    assert "decode-1 sent more tokens than it was asked for" in answer.text
    assert answer.status_code == (200 if stream else 500)
    assert await asyncio.wait_for(fake.cancels.get(), 5) == fake.calls[0].request_id


async def test_a_reason_of_an_instances_own_makes_no_new_series(router: RunningRouter) -> None:
    fake = await router.add(account={"fallback": "surprise-17"})
    fake.script = fake.says("hello")
    assert (await post(router)).status_code == 200
    assert router.metric("prfaas_router_fallbacks_total", code="internal") == 1
    assert "surprise-17" not in (await router.http.get("/metrics")).text

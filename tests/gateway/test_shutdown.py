"""Draining: new requests are refused, running ones end, and those that do not are told so."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.fake_instance import FakeInstance, Finish, Say, Wait
from tests.gateway.running_router import RunningRouter, eventually, running_router

BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


def post(router: RunningRouter, **body: Any) -> "asyncio.Task[httpx2.Response]":
    return asyncio.create_task(router.http.post("/v1/chat/completions", json=BODY | body))


async def held_up(router: RunningRouter) -> tuple[FakeInstance, asyncio.Event]:
    """An instance that says "hello" and finishes when the event is set."""
    fake, go_on = await router.add(), asyncio.Event()
    fake.script = lambda _: [Say(fake.tokenizer.encode("hello").ids), Wait(go_on), Finish()]
    return fake, go_on


@pytest.mark.parametrize("streamed", [False, True])
async def test_running_requests_end_and_new_ones_are_refused(router: RunningRouter, streamed: bool) -> None:
    fake, go_on = await held_up(router)
    running = post(router, stream=streamed)
    await fake.started.wait()
    draining = asyncio.create_task(router.gate.drain(5.0))
    await eventually(lambda: router.gate.draining)

    refused = await router.http.post("/v1/chat/completions", json=BODY)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "draining"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-request-id"]
    ready = await router.http.get("/ready")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the router is draining"])
    assert (await router.http.get("/health")).status_code == 200
    assert (await router.http.get("/fleet")).json()["draining"] is True

    assert not draining.done()
    go_on.set()
    assert (await running).status_code == 200
    assert '"finish_reason":"stop"' in (await running).text
    assert await draining == 0


async def test_an_idle_router_drains_at_once(router: RunningRouter) -> None:
    assert await router.gate.drain(60.0) == 0


async def test_a_stream_that_takes_too_long_ends_with_an_error(router: RunningRouter) -> None:
    fake, _ = await held_up(router)
    running = post(router, stream=True)
    await fake.started.wait()
    await eventually(lambda: router.metric("vllm:time_to_first_token_seconds_count") == 1)
    assert await router.gate.drain(0.01) == 1
    *_, last, rest = (await running).text.split("\n\n")
    assert rest == ""
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "draining"
    assert await fake.cancels.get() == fake.calls[0].request_id


async def test_a_whole_answer_that_takes_too_long_is_a_503(router: RunningRouter) -> None:
    fake, _ = await held_up(router)
    running = post(router)
    await fake.started.wait()
    assert await router.gate.drain(0.01) == 1
    assert (await running).status_code == 503
    assert (await running).json()["error"]["code"] == "draining"
    assert await fake.cancels.get() == fake.calls[0].request_id


async def test_stopping_closes_both_ports(model: Path) -> None:
    async with running_router(model) as router:
        await router.add()
        addresses = [router.server.http_address, router.server.control_address]
    for address in addresses:
        host, port = address.split(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))

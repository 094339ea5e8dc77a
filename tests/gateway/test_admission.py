"""Requests that a contended fleet cannot take at once: they wait, and come in, or are told when to come back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from prfaas.config.sections import FleetConfig
from tests.gateway.fake_instance import FakeInstance, Finish, Say, Wait
from tests.gateway.running_router import RunningRouter, eventually, fleet_config, router_of
from tests.gateway.test_bad_requests import TEXT, error_of

BATCH = {"x-prfaas-priority": "batch"}


def contended(model: Path, **sections: dict[str, Any]) -> FleetConfig:
    """An instance runs one request, one more may wait for its slot, and none beyond."""
    changes = {"engine": {"max_running_requests": 1}, "policy": {"max_queued_requests": 0}, **sections}
    return FleetConfig.model_validate(fleet_config(model).model_dump() | changes)


@pytest.fixture
async def router(model: Path) -> AsyncIterator[RunningRouter]:
    async with router_of(contended(model)) as router:
        yield router


async def hold(router: RunningRouter) -> tuple[FakeInstance, asyncio.Event]:
    """An instance whose answers end when the event is set."""
    fake, go_on = await router.add(), asyncio.Event()
    fake.script = lambda _: [Say([5]), Wait(go_on), Finish("stop")]
    return fake, go_on


def post(router: RunningRouter, **headers: str) -> "asyncio.Task[httpx2.Response]":
    return asyncio.create_task(router.http.post("/v1/completions", json=TEXT, headers=headers))


async def fill(router: RunningRouter) -> "tuple[FakeInstance, asyncio.Event, list[asyncio.Task[httpx2.Response]]]":
    """As many requests as come in, and one that waits."""
    fake, go_on = await hold(router)
    inside = [post(router), post(router)]
    await eventually(lambda: len(fake.calls) == 2)
    waiting = post(router)
    await eventually(lambda: router.dispatcher.room.waiting == 1)
    return fake, go_on, [*inside, waiting]


async def test_a_heartbeat_with_room_lets_in_who_waits(router: RunningRouter) -> None:
    fake, go_on, posts = await fill(router)
    await router.heartbeat(fake)
    assert router.dispatcher.room.waiting == 1, "a heartbeat alone changes nothing"
    go_on.set()
    await asyncio.gather(*posts[:2])
    await router.heartbeat(fake)
    assert [reply.status_code for reply in await asyncio.gather(*posts)] == [200] * 3
    assert len(fake.calls) == 3
    assert router.metric("prfaas_router_wait_seconds_count", priority="interactive") == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_waits_in_vain_is_told_when_to_come_back(model: Path, streamed: bool) -> None:
    async with router_of(contended(model, admission={"max_wait_s": 0.01})) as router:
        _, go_on = await hold(router)
        inside = [post(router), post(router)]
        await eventually(lambda: router.registry.outstanding == 2)
        reply = await router.http.post("/v1/completions", json=TEXT | {"stream": streamed})
        error = error_of(reply, 429)
        assert (error["code"], error["type"]) == ("contended", "rate_limit_error")
        assert "more than max_queued_requests 0" in error["message"]
        assert int(reply.headers["retry-after"]) >= 1
        assert router.metric("prfaas_router_refused_total", reason="waited_too_long", priority="interactive") == 1
        assert router.metric("prfaas_router_failures_total", code="contended") == 1
        go_on.set()
        await asyncio.gather(*inside)


async def test_a_client_that_leaves_frees_its_place(router: RunningRouter) -> None:
    fake, go_on, posts = await fill(router)
    posts[2].cancel()
    await eventually(lambda: router.metric("prfaas_router_client_disconnects_total") == 1)
    assert router.dispatcher.room.waiting == 0
    go_on.set()
    await asyncio.gather(*posts[:2])
    assert len(fake.calls) == 2


async def test_draining_ends_the_waiting_at_once(router: RunningRouter) -> None:
    _, go_on, posts = await fill(router)
    draining = asyncio.create_task(router.gate.drain(5.0))
    assert error_of(await posts[2], 503)["code"] == "draining"
    assert not draining.done()
    go_on.set()
    assert await draining == 0
    assert [reply.status_code for reply in await asyncio.gather(*posts[:2])] == [200, 200]


async def test_waiting_counts_towards_the_first_tokens_deadline(model: Path) -> None:
    config = contended(model, router={"http": "127.0.0.1:0", "control": "127.0.0.1:0", "first_token_deadline_s": 0.05})
    async with router_of(config) as router:
        _, go_on = await hold(router)
        inside = [post(router), post(router)]
        await eventually(lambda: router.registry.outstanding == 2)
        assert error_of(await post(router), 429)["code"] == "contended"
        go_on.set()
        await asyncio.gather(*inside)


async def test_batch_leaves_slots_to_others(model: Path) -> None:
    """Half of two slots: one request of class batch comes in, and the second when the first is over."""
    config = contended(model, engine={"max_running_requests": 2}, admission={"batch_share": 0.5})
    async with router_of(config) as router:
        fake, go_on = await hold(router)
        first = post(router, **BATCH)
        await eventually(lambda: len(fake.calls) == 1)
        second = post(router, **BATCH)
        await eventually(lambda: router.metric("prfaas_router_waiting_requests", priority="batch") == 1)
        interactive = post(router)
        await eventually(lambda: len(fake.calls) == 2)
        go_on.set()
        await asyncio.gather(first, interactive)
        await router.heartbeat(fake)
        assert (await second).status_code == 200


async def test_nothing_can_decode(router: RunningRouter) -> None:
    reply = await post(router)
    assert error_of(reply, 503)["code"] == "unavailable"
    assert reply.headers["retry-after"] == "1"
    assert router.metric("prfaas_router_refused_total", reason="unavailable", priority="interactive") == 1


async def test_the_last_instance_leaves_while_requests_wait(router: RunningRouter) -> None:
    fake, _, posts = await fill(router)
    router.registry.deregister(fake.name, fake.epoch)
    router.dispatcher.room.look_soon()
    assert error_of(await posts[2], 503)["code"] == "unavailable"
    await fake.stop()
    await asyncio.gather(*posts)


async def test_an_unknown_class(router: RunningRouter) -> None:
    error = error_of(await post(router, **{"x-prfaas-priority": "urgent"}), 400)
    assert error["param"] == "x-prfaas-priority"

"""`/fleet/events` on real sockets: what is told, to how many, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest

from prfaas.core.errors import DrainingError, UnavailableError
from prfaas.gateway.fleet_watch import BACKLOG, MAX_LISTENERS
from tests.gateway.fake_instance import Abort
from tests.gateway.running_router import RunningRouter, eventually

Told = tuple[str, dict[str, Any]]
BODY = {"model": "tiny", "prompt": "hello world", "max_tokens": 4}


async def events(answer: httpx2.Response) -> AsyncIterator[Told]:
    name = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


async def test_the_whole_fleet_comes_first_and_then_what_changed(router: RunningRouter) -> None:
    await router.add("decode-1")
    router.watch.tick()
    async with router.http.stream("GET", "/fleet/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        told = events(answer)
        name, start = await anext(told)
        assert name == "start"
        assert [one["name"] for one in start["fleet"]["instances"]] == ["decode-1"]
        assert [sample["threshold_tokens"] for sample in start["history"]][-1] == 100
        assert (await router.http.post("/v1/completions", json=BODY)).status_code == 200
        router.watch.tick()
        name, change = await anext(told)
        while "placements" not in change:  # the router's own second may have passed between
            name, change = await anext(told)
        assert name == "change"
        [row] = change["placements"]
        assert (row["decision"], row["outcome"], row["decode"]) == ("decode", "done", "decode-1")
        assert "instances" not in change or change["instances"][0]["name"] == "decode-1"
        assert "clusters" not in change


async def test_a_listener_that_leaves_is_forgotten(router: RunningRouter) -> None:
    async with router.http.stream("GET", "/fleet/events") as answer:
        await anext(events(answer))
        assert router.metric("prfaas_router_watchers") == 1
    await eventually(lambda: router.metric("prfaas_router_watchers") == 0)


async def test_streams_end_when_the_router_drains(router: RunningRouter) -> None:
    async with router.http.stream("GET", "/fleet/events") as answer:
        told = events(answer)
        await anext(told)
        router.watch.close()
        assert [name async for name, _ in told if name == "start"] == []
    with pytest.raises(DrainingError):
        router.watch.join()
    assert (await router.http.get("/fleet/events")).status_code == 503


async def test_one_that_does_not_read_is_sent_away_and_the_others_stay(router: RunningRouter) -> None:
    slow, quick = router.watch.join(), router.watch.join()
    for _ in range(BACKLOG + 2):
        router.watch.tick()
        assert await quick.next() is not None
    async with asyncio.timeout(5):
        assert await slow.next() is None  # nothing of what it missed was kept for it
    assert router.metric("prfaas_router_watchers_ended_total", reason="slow") == 1
    assert router.metric("prfaas_router_watchers") == 2
    router.watch.leave(slow)
    router.watch.leave(quick)
    assert router.metric("prfaas_router_watchers") == 0


async def test_there_are_only_so_many(router: RunningRouter) -> None:
    those = [router.watch.join() for _ in range(MAX_LISTENERS)]
    with pytest.raises(UnavailableError, match="GET /fleet"):
        router.watch.join()
    assert (await router.http.get("/fleet/events")).status_code == 503
    assert router.metric("prfaas_router_watchers_ended_total", reason="full") == 2
    for listener in those:
        router.watch.leave(listener)
    router.watch.leave(router.watch.join())


async def test_rows_tell_of_failures_and_second_attempts(router: RunningRouter) -> None:
    await router.add("decode-1", script=lambda _: [Abort(grpc.StatusCode.UNAVAILABLE)])
    assert (await router.http.post("/v1/completions", json=BODY)).status_code == 502
    [row] = (await router.http.get("/fleet")).json()["placements"]
    assert (row["outcome"], row["attempt"]) == ("failed", 1)
    assert row["code"]
    await router.add("decode-2")
    await router.add("decode-3")
    assert (await router.http.post("/v1/completions", json=BODY)).status_code == 200
    row = (await router.http.get("/fleet")).json()["placements"][-1]
    assert row["outcome"] == "done"
    assert row["ttft_s"] is not None
    assert row["reason"]


async def test_the_fleet_tells_what_waits_and_what_was_refused(router: RunningRouter) -> None:
    assert (await router.http.post("/v1/completions", json=BODY)).status_code == 503
    fleet = (await router.http.get("/fleet")).json()
    assert fleet["admission"]["refused"]["unavailable"] == 1
    assert fleet["admission"]["waiting_interactive"] == fleet["admission"]["outstanding"] == 0
    assert fleet["hits"] == {"predicted": None, "realised": None}
    assert (fleet["worker"], fleet["workers"]) == (None, 1)

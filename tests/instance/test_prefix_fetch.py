"""Prefixes that an instance fetches from another's cache: once, whole, no longer than it is worth; nothing stays."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import grpc
import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import RequestId
from prfaas.core.shape import ModelShape
from prfaas.instance import prefix_fetch
from tests.eventually import eventually_async
from tests.instance.pair import DENSE, HYBRID, Member, Pair, running
from tests.instance.played_engine import Plan
from tests.transport.flipping_way import FlippingWay

PREFIX = tuple(range(1, 41))


def source_of(member: Member, tokens: int = len(PREFIX)) -> pb.CacheSource:
    identity = member.identity
    return pb.CacheSource(
        instance_id=identity.instance_id, cluster=identity.cluster, control_address=member.address, tokens=tokens
    )


async def announce(pair: Pair, request_id: str = "r", prefix: tuple[int, ...] = PREFIX, **changed: Any) -> None:
    """The near instance hears of a request, and of a prefix that the far one has."""
    source = source_of(pair.far, len(prefix))
    fields: dict[str, Any] = {"request_id": request_id, "source": source, "prompt_token_ids": prefix} | changed
    await pair.near.stub.Announce(pb.AnnounceRequest(**fields))


def results(pair: Pair) -> dict[str, float]:
    metric = pair.near.metrics.prefix_fetches.fetches
    return {s.labels["result"]: s.value for m in metric.collect() for s in m.samples if s.name.endswith("_total")}


async def ended(pair: Pair, **expected: int) -> None:
    """So many fetches have ended in each way, and nothing is left of any at either end."""
    await eventually_async(lambda: results(pair) == expected)
    for member in (pair.near, pair.far):
        seen = member.engine.seen
        await eventually_async(lambda seen=seen: set(seen.admitted) <= set(seen.released))  # type: ignore[misc]
    await eventually_async(lambda: pair.far.prefill.num_running == 0)
    assert len(pair.near.inbox) == 0


@pytest.mark.parametrize("shape", [HYBRID, DENSE], ids=["with states", "without"])
@pytest.mark.parametrize("held", [0, 16])
async def test_a_prefix_comes_whole_and_is_kept_for_its_request(shape: ModelShape, held: int) -> None:
    async with running(shape) as pair:
        pair.near.engine.plan = Plan(held_tokens=held)
        await announce(pair)
        fetched = await pair.near.fetches.wait("r")
        assert fetched is not None
        assert (fetched.instance_id, fetched.first, fetched.end) == ("far", held, len(PREFIX))
        await ended(pair, ok=1)
        seen = pair.near.engine.seen
        assert [(kept.wanted_by, kept.lossy) for kept in seen.kept] == [(("r",), False)]
        assert seen.whole == [True]
        assert pair.near.metrics.prefix_fetches.tokens._value.get() == len(PREFIX) - held


async def test_what_is_here_already_is_not_fetched() -> None:
    async with running() as pair:
        pair.near.engine.plan = Plan(held_tokens=len(PREFIX))
        await announce(pair)
        assert await pair.near.fetches.wait("r") is None
        await ended(pair, held=1)
        assert pair.far.engine.seen.admitted == {}


async def test_corrupt_objects_come_again() -> None:
    async with running(DENSE) as pair:
        port = int(pair.near.identity.data_address.rpartition(":")[2])
        with FlippingWay(port, 30_000, seed=4) as way:
            fetcher = pair.near.fetches._fetcher
            fetcher._identity = replace(fetcher._identity, data_address=way.address)
            for turn in range(20):
                await announce(pair, f"r{turn}", (*range(turn + 2, turn + 62),))
                await pair.near.fetches.wait(f"r{turn}")
            await eventually_async(lambda: sum(results(pair).values()) == 20)
            assert way.flips > 0
            seen = pair.near.engine.seen
            assert len(seen.kept) == results(pair)["ok"] > 0
            assert all(seen.whole)
            assert pair.near.metrics.corrupt_frames._value.get() > 0


@pytest.mark.parametrize("where", ["near", "far"])
async def test_a_refusal_is_told_by_its_own_code(where: str) -> None:
    async with running() as pair:
        if where == "near":
            pair.near.engine.plan = Plan(room=False)
        else:
            pair.far.engine.plan = Plan(lends=False)
        await announce(pair)
        assert await pair.near.fetches.wait("r") is None
        await eventually_async(lambda: results(pair) == ({"no_room": 1} if where == "near" else {"prefix_gone": 1}))
        assert pair.near.engine.seen.kept == []
        await eventually_async(lambda: RequestId("r#1") in pair.near.engine.seen.released)
        assert len(pair.near.inbox) == pair.far.prefill.num_running == 0


def holding(pair: Pair) -> threading.Event:
    """The far engine says nothing of what it has until the event is set."""
    gate = threading.Event()
    pair.far.engine.plan = Plan(before_lending=gate)
    return gate


async def test_requests_that_want_the_same_share_one_fetch() -> None:
    async with running() as pair:
        gate = holding(pair)
        await announce(pair, "a")
        await announce(pair, "b")
        await announce(pair, "other tenant", cache_salt="theirs")
        gate.set()
        both = await asyncio.gather(pair.near.fetches.wait("a"), pair.near.fetches.wait("b"))
        assert both[0] == both[1] != None  # noqa: E711 - a chain
        await ended(pair, ok=2)
        assert sorted(kept.wanted_by for kept in pair.near.engine.seen.kept) == [("a", "b"), ("other tenant",)]


async def test_no_more_than_a_few_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_fetch, "AT_ONCE", 2)
    async with running() as pair:
        gate = holding(pair)
        for i in range(3):
            await announce(pair, f"r{i}", (*PREFIX, *range(i, i + 4)))
        assert results(pair) == {"busy": 1}
        gate.set()
        await ended(pair, ok=2, busy=1)


async def test_the_engine_may_take_the_memory_back() -> None:
    async with running() as pair:
        gate = holding(pair)
        await announce(pair)
        await eventually_async(lambda: len(pair.near.inbox) == 1)
        pair.near.engine.take_back(RequestId("r#1"))
        assert await pair.near.fetches.wait("r") is None
        gate.set()
        await ended(pair, no_room=1)
        assert pair.near.engine.seen.kept == []


async def test_a_cancelled_request_ends_its_fetch() -> None:
    async with running() as pair:
        gate = holding(pair)
        await announce(pair)
        await eventually_async(lambda: len(pair.near.inbox) == 1)
        assert (await pair.near.stub.Cancel(pb.CancelRequest(request_id="r"))).found
        gate.set()
        await ended(pair, cancelled=1)
        assert pair.near.engine.seen.kept == []


async def test_a_waiter_that_leaves_ends_the_fetch_unless_another_waits() -> None:
    async with running() as pair:
        gate = holding(pair)
        for name in ("a", "b"):
            await announce(pair, name)
        leaving, staying = (asyncio.create_task(pair.near.fetches.wait(name)) for name in ("a", "b"))
        await eventually_async(lambda: len(pair.near.inbox) == 1)
        leaving.cancel()
        gate.set()
        assert await staying is not None
        await ended(pair, ok=1)


async def test_a_prompt_does_not_wait_longer_than_to_be_computed() -> None:
    async with running() as pair:
        gate = holding(pair)
        pair.near.fetches._prefill_s = lambda _: 0.0
        await announce(pair)
        tokens, account = await pair.ask(*PREFIX, 7, remote=False)
        assert (len(tokens), account.tokens_fetched, account.fetched_from) == (1, 0, "")
        gate.set()
        await ended(pair, cancelled=1)
        assert pair.near.metrics.prefix_fetches.given_up._value.get() == 1


async def test_an_announcement_without_a_request_is_forgotten() -> None:
    async with running() as pair:
        pair.near.fetches._announced_s = 0.05
        await announce(pair)
        await eventually_async(lambda: pair.near.fetches._by_request == {})


async def test_what_comes_after_its_request_is_not_fetched() -> None:
    async with running() as pair:
        await pair.ask(*PREFIX, 7, remote=False)
        await announce(pair)
        assert results(pair) == {"late": 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"source": pb.CacheSource(instance_id="near", tokens=40)}, "fetch a prefix from itself"),
        ({"source": pb.CacheSource(instance_id="far", tokens=39, control_address="h:1")}, "40 tokens, its source 39"),
        ({"prompt_token_ids": ()}, "0 tokens, its source 40"),
        ({"prompt_token_ids": (1000, *PREFIX[1:])}, "token id 1000"),
        ({"source": pb.CacheSource(instance_id="far", tokens=40, control_address="nowhere")}, "control address"),
        ({"cache_salt": "x" * 257}, "cache_salt has 257 characters"),
    ],
)
async def test_what_cannot_be_a_prefix_is_refused(changed: dict[str, Any], said: str) -> None:
    async with running() as pair:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await announce(pair, **changed)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in (caught.value.details() or "")
        assert (results(pair), pair.near.engine.seen.announced) == ({}, [])

"""What the way between two instances can do to a transfer, and that the answer is right and nothing is left."""

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import ModelShape
from prfaas.relay.server import RelayServer, serve_relay
from prfaas.relay.shaping import LinkProfile
from tests.eventually import eventually_async
from tests.generating import Generating
from tests.instance.pair import DENSE, HYBRID, Member, Pair, running
from tests.instance.played_engine import Plan, first_token

PROMPT = tuple(range(1, 61))
FAST = LinkProfile(gbit_s=1.0, rtt_ms=0.0)


@contextlib.asynccontextmanager
async def apart(shape: ModelShape = DENSE, **transport: Any) -> AsyncIterator[tuple[Pair, RelayServer]]:
    """Two instances with a relay between them."""
    relay = await serve_relay("127.0.0.1", 0, FAST)
    try:
        async with running(shape, relay_port=relay.port, **transport) as pair:
            yield pair, relay
    finally:
        await relay.close()


def held_back(pair: Pair) -> threading.Event:
    """The far engine's prefill stops before its last chunk until the event is set."""
    pair.far.engine.plan = Plan(before_last_chunk=threading.Event())
    assert pair.far.engine.plan.before_last_chunk is not None
    return pair.far.engine.plan.before_last_chunk


def right() -> list[int]:
    return [first_token(Request(RequestId("r"), PROMPT, SamplingParams(max_tokens=1)))]


def arrived(member: Member) -> float:
    return float(member.metrics.kv_bytes.labels("in", "wire")._value.get())


async def freed(pair: Pair, requests: int = 1) -> None:
    """Of everything that the request held, nothing is left at either end."""
    await eventually_async(lambda: len(pair.far.engine.seen.released) == requests)
    await eventually_async(lambda: len(pair.near.engine.seen.released) == requests)
    assert pair.far.prefill.num_running == len(pair.near.inbox) == 0


async def test_a_long_prefill_outlives_resets_of_its_call_and_its_data() -> None:
    async with apart(HYBRID) as (pair, relay):
        gate = held_back(pair)
        relay.set_profile(LinkProfile(gbit_s=1.0, rtt_ms=0.0, reset_every_s=0.3))
        asking = asyncio.create_task(pair.ask(*PROMPT))
        await eventually_async(lambda: relay.stats().resets >= 8)
        gate.set()
        tokens, account = await asking
        assert (tokens, account.fallback) == (right(), "")
        assert pair.near.engine.seen.whole == [True]
        assert len(pair.far.engine.seen.requests) == 1
        await freed(pair)


async def test_a_way_that_is_gone_for_a_moment_is_waited_for() -> None:
    async with apart() as (pair, relay):
        gate = held_back(pair)
        asking = asyncio.create_task(pair.ask(*PROMPT))
        await eventually_async(lambda: arrived(pair.near) > 0)
        relay.set_up(False)
        await eventually_async(lambda: relay.stats().connections == 0)
        gate.set()
        relay.set_up(True)
        tokens, account = await asking
        assert (tokens, account.fallback) == (right(), "")
        await freed(pair)


async def test_a_way_that_is_gone_for_good_leaves_what_was_verified() -> None:
    async with apart(stall_s=1.0) as (pair, relay):
        gate = held_back(pair)
        asking = asyncio.create_task(pair.ask(*PROMPT))
        # All but the last chunk's five tokens.
        await eventually_async(lambda: arrived(pair.near) >= 55 * DENSE.kv_bytes_per_token)
        relay.set_up(False)
        tokens, account = await asking
        assert (tokens, account.fallback) == (right(), "peer_lost")
        assert (pair.near.engine.seen.verified, pair.near.engine.seen.right) == ([55], [True])
        gate.set()
        await freed(pair)


async def test_a_way_that_goes_silent_is_given_up_at_both_ends() -> None:
    async with apart(stall_s=0.5) as (pair, relay):
        gate = held_back(pair)
        asking = asyncio.create_task(pair.ask(*PROMPT))
        await eventually_async(lambda: arrived(pair.near) > 0)
        relay.set_profile(LinkProfile(gbit_s=1.0, rtt_ms=0.0, stalled=True))
        tokens, account = await asking
        assert (tokens, account.fallback) == (right(), "deadline_exceeded")
        gate.set()
        await freed(pair)


async def test_a_trickle_is_given_up_when_the_prefill_is_over() -> None:
    async with apart(stall_s=1.0, credit_bytes=8192) as (pair, relay):
        # What the way can do is known from a transfer before.
        assert (await pair.ask(*PROMPT))[1].fallback == ""
        gate = held_back(pair)
        relay.set_profile(LinkProfile(gbit_s=1e-4, rtt_ms=0.0))
        asking = asyncio.create_task(pair.ask(*PROMPT))
        await eventually_async(lambda: len(pair.far.engine.seen.requests) == 2)
        gate.set()
        tokens, account = await asking
        assert (tokens, account.fallback) == (right(), "deadline_exceeded")
        relay.set_profile(FAST)
        await freed(pair, 2)


async def test_a_client_that_gives_up_frees_both_ends_at_once() -> None:
    async with apart() as (pair, _):
        gate = held_back(pair)
        call = Generating(pair.near.stub, pair.request(*PROMPT))
        await eventually_async(lambda: arrived(pair.near) > 0)
        assert (await pair.near.stub.Cancel(pb.CancelRequest(request_id="r"))).found
        assert [event async for event in call][-1].failure.code == "cancelled"
        # The engine has not computed the rest yet.
        await eventually_async(lambda: pair.far.prefill.num_running == 0)
        gate.set()
        await freed(pair)


async def test_an_engine_that_fails_ends_the_transfer_and_nothing_of_it_is_used() -> None:
    async with apart() as (pair, _):
        pair.far.engine.plan = Plan(fails=True)
        tokens, account = await pair.ask(*PROMPT)
        assert (tokens, account.fallback, account.kv_codec) == (right(), "engine_failed", "none")
        assert pair.near.engine.seen.verified == [0]
        await freed(pair)


async def test_of_a_prefill_that_contradicts_itself_nothing_is_used() -> None:
    async with apart() as (pair, _):
        pair.far.engine.plan = Plan(cached_tokens=12, computes_from=8)
        tokens, account = await pair.ask(*PROMPT)
        assert (tokens, account.fallback) == (right(), "manifest_invalid")
        assert pair.near.engine.seen.verified == [0]
        await freed(pair)


async def test_where_nothing_listens_any_more_nobody_waits_for_long() -> None:
    async with apart(stall_s=60.0) as (pair, _):
        gate = held_back(pair)
        asking = asyncio.create_task(pair.ask(*PROMPT))
        await eventually_async(lambda: arrived(pair.near) > 0)
        await pair.far.control.stop(grace=0)
        tokens, account = await asyncio.wait_for(asking, 30)
        assert (tokens, account.fallback) == (right(), "peer_lost")
        gate.set()
        await freed(pair)


@pytest.mark.parametrize("deadline_s", [math.nan, math.inf, -1.0])
async def test_a_deadline_that_is_no_time_is_refused(deadline_s: float) -> None:
    async with running() as pair:
        message = pair.request(*PROMPT, remote=False)
        message.deadline_s = deadline_s
        (event,) = [event async for event in Generating(pair.near.stub, message)]
        assert event.failure.code == "invalid_request"
        assert "deadline_s" in event.failure.message

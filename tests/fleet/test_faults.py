"""What breaks, and that the answer is the same, the reason is told, and nothing is left behind."""

import asyncio
from pathlib import Path

import openai
import pytest

from prfaas.relay.shaping import LinkProfile
from tests.eventually import eventually_async
from tests.fleet.fake_prefill import SilentPrefill, instead_of_east
from tests.fleet.rig import Answer, InProcessFleet, prompt_of, running

LONG = prompt_of(500)
LITTLE_ON_ITS_WAY = {"credit_bytes": 1 << 17}
"""Most of the KV is still at the sender when something happens to it."""


async def expected_tokens(fleet: InProcessFleet) -> list[int]:
    return (await fleet.ask(LONG, prefill="local")).tokens


async def under_way(fleet: InProcessFleet) -> "asyncio.Task[Answer]":
    """A remote request whose KV has begun to arrive over a slow link."""
    fleet.relay.set_profile(LinkProfile(gbit_s=0.004, rtt_ms=4.0))
    asking = asyncio.create_task(fleet.ask(LONG, prefill="remote"))
    metrics = fleet.instances["west-d"].server.metrics
    before = metrics.kv_bytes.labels("in", "wire")._value.get()
    await eventually_async(lambda: metrics.kv_bytes.labels("in", "wire")._value.get() > before + 65536)
    return asking


async def check_fallback(fleet: InProcessFleet, answer: Answer, tokens: list[int], *codes: str) -> None:
    assert answer.tokens == tokens
    assert answer.account["prefill"]["instance"] == "west-d"
    assert answer.account["fallback"] in codes
    assert fleet.fallbacks() == {answer.account["fallback"]: 1}
    await fleet.settled()


async def test_link_down_before_the_transfer(model: Path) -> None:
    async with running(model) as fleet:
        tokens = await expected_tokens(fleet)
        fleet.relay.set_up(False)
        await check_fallback(fleet, await fleet.ask(LONG, prefill="remote"), tokens, "peer_lost")
        fleet.relay.set_up(True)
        for _ in range(100):
            answer = await fleet.ask(LONG, prefill="remote")
            if answer.crossed:
                break
            await asyncio.sleep(0.05)
        assert answer.crossed
        assert answer.tokens == tokens


async def test_link_lost_in_the_middle_of_a_transfer(model: Path) -> None:
    async with running(model, transport=LITTLE_ON_ITS_WAY) as fleet:
        tokens = await expected_tokens(fleet)
        asking = await under_way(fleet)
        fleet.relay.set_up(False)
        await check_fallback(fleet, await asking, tokens, "peer_lost")


async def test_prefill_instance_lost_in_the_middle_of_a_transfer(model: Path) -> None:
    async with running(model, transport=LITTLE_ON_ITS_WAY) as fleet:
        tokens = await expected_tokens(fleet)
        asking = await under_way(fleet)
        await fleet.stop("east-p")
        await check_fallback(fleet, await asking, tokens, "peer_lost", "cancelled")


@pytest.mark.parametrize("talkative", [False, True])
async def test_prefill_instance_that_never_sends_anything(model: Path, talkative: bool) -> None:
    async with running(model, transport={"stall_s": 0.5, "frame_bytes": 65536}) as fleet:
        tokens = await expected_tokens(fleet)
        silent = SilentPrefill(talkative=talkative)
        async with instead_of_east(fleet, silent):
            await check_fallback(fleet, await fleet.ask(LONG, prefill="remote"), tokens, "deadline_exceeded")
            await eventually_async(lambda: silent.calls == silent.cancelled == 1)


async def test_prefill_instance_that_ends_the_call_without_a_word(model: Path) -> None:
    async with running(model) as fleet:
        tokens = await expected_tokens(fleet)
        async with instead_of_east(fleet, SilentPrefill(hasty=True)):
            await check_fallback(fleet, await fleet.ask(LONG, prefill="remote"), tokens, "peer_lost")


async def test_draining_prefill_instance_refuses_and_is_avoided(model: Path) -> None:
    async with running(model) as fleet:
        tokens = await expected_tokens(fleet)
        fleet.instances["east-p"].server.servicer.leave()
        answer = await fleet.ask(LONG)
        assert answer.tokens == tokens
        assert not answer.crossed
        await eventually_async(lambda: bool(fleet.instances["east-p"].server.load().draining))


async def test_restarts_of_the_remote_instance_in_a_loop(model: Path) -> None:
    async with running(model) as fleet:
        tokens = await expected_tokens(fleet)
        for _ in range(3):
            await fleet.stop("east-p")
            assert (await fleet.ask(LONG)).tokens == tokens
            await fleet.start("east-p")
            answer = await fleet.ask(LONG)
            assert answer.crossed
            assert answer.tokens == tokens


async def test_restart_of_the_decode_instance(model: Path) -> None:
    async with running(model) as fleet:
        tokens = await expected_tokens(fleet)
        for _ in range(2):
            await fleet.stop("west-d")
            with pytest.raises(openai.APIStatusError) as caught:
                await fleet.ask(LONG)
            assert caught.value.status_code == 503
            await fleet.start("west-d")
            assert (await fleet.ask(LONG, prefill="remote")).tokens == tokens
        await fleet.settled()


async def test_decode_instance_lost_while_it_streams(model: Path) -> None:
    async with running(model) as fleet:
        stream = await fleet.client.completions.create(
            model="tiny", prompt=LONG, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        )
        await anext(stream)
        await fleet.stop("west-d")
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]
        await fleet.start("west-d")
        await fleet.settled()


async def test_connection_resets_again_and_again(model: Path) -> None:
    async with running(model) as fleet:
        tokens = await expected_tokens(fleet)
        fleet.relay.set_profile(LinkProfile(gbit_s=1.0, rtt_ms=2.0, reset_every_s=0.15))
        answers = [await fleet.ask(LONG, prefill="remote") for _ in range(15)]
        assert all(answer.tokens == tokens for answer in answers)
        fell_back = sum(fleet.fallbacks().values())
        assert fell_back == sum(answer.account["fallback"] is not None for answer in answers)

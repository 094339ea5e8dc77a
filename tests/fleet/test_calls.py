"""What callers of an instance can do to it over gRPC, short of asking nicely."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import new_secret, new_transfer_id
from prfaas.engine.model_runner import ModelRunner
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, prompt_of, running
from tests.generating import Generating

GREEDY = pb.Sampling(max_tokens=4, temperature=0, top_p=1, ignore_eos=True)


def sampling(max_tokens: int) -> pb.Sampling:
    return pb.Sampling(max_tokens=max_tokens, temperature=0, top_p=1, ignore_eos=True)


def prefill(fleet: InProcessFleet, name: str, data_address: str, **changes: Any) -> pb.PrefillRequest:
    ticket = pb.Ticket(
        transfer_id=new_transfer_id(), epoch=1, secret=new_secret(), data_address=data_address, receiver_cluster="east"
    )
    request = pb.PrefillRequest(
        request_id=name,
        prompt_token_ids=[5] * 40,
        sampling=GREEDY,
        ticket=ticket,
        model_fingerprint=fleet.instances["east-p"].identity.model_fingerprint,
    )
    request.MergeFrom(pb.PrefillRequest(**changes))
    return request


def generate(name: str, max_tokens: int = 4, tokens: int = 40) -> pb.GenerateRequest:
    return pb.GenerateRequest(request_id=name, prompt_token_ids=[5] * tokens, sampling=sampling(max_tokens))


async def failure_code(call: AsyncIterable[Any]) -> str:
    events = [event async for event in call]
    assert events[-1].WhichOneof("event") == "failure", events[-1]
    return str(events[-1].failure.code)


async def test_a_receiver_that_refuses_at_once_leaves_nothing_behind(model: Path) -> None:
    """The end of the transfer may come before the engine has even heard of the request."""
    async with running(model) as fleet, fleet.calling("east-p") as east:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for i in range(60):
                call = east.Prefill(prefill(fleet, f"p{i}", "127.0.0.1:1"))
                assert await failure_code(call) == "peer_lost"
        finally:
            sys.setswitchinterval(interval)


@pytest.mark.parametrize("address", ["nonsense", "", "a..b:80", f"{'x' * 70}.y:80"])
async def test_bad_data_addresses_are_refused(model: Path, address: str) -> None:
    async with running(model) as fleet, fleet.calling("east-p") as east:
        assert await failure_code(east.Prefill(prefill(fleet, "p", address))) == "ticket_refused"


async def test_other_models_and_frames_too_small_are_refused(model: Path) -> None:
    async with running(model) as fleet, fleet.calling("east-p") as east:
        other = prefill(fleet, "p", "127.0.0.1:1", model_fingerprint="other")
        assert await failure_code(east.Prefill(other)) == "manifest_invalid"
        small = prefill(fleet, "p", "127.0.0.1:1", ticket=pb.Ticket(max_frame_bytes=16))
        assert await failure_code(east.Prefill(small)) == "ticket_refused"


async def test_tokens_outside_the_vocabulary_fail_alone(model: Path) -> None:
    async with running(model) as fleet, fleet.calling("west-d") as west:
        good = Generating(west, generate("good", max_tokens=60))
        bad = generate("bad")
        bad.prompt_token_ids[3] = 2_000_000_000
        assert await failure_code(Generating(west, bad)) == "invalid_request"
        events = [event async for event in good]
        assert events[-1].finished.reason == "length"


async def test_cancel_is_heard_by_the_caller_before_the_first_token(model: Path) -> None:
    small = {"num_pages": 60, "max_running_requests": 1}
    async with running(model, engine=small) as fleet, fleet.calling("west-d") as west:
        front = fleet.instances["west-d"].server.front
        hog = aiter(Generating(west, generate("hog", max_tokens=500)))
        await anext(hog)
        waiting = asyncio.create_task(failure_code(Generating(west, generate("waits"))))
        await eventually_async(lambda: front.stats.waiting_requests == 1)
        assert (await west.Cancel(pb.CancelRequest(request_id="waits"))).found
        assert await waiting == "cancelled"
        assert (await west.Cancel(pb.CancelRequest(request_id="hog"))).found
        rest = [event async for event in hog]
        assert rest[-1].finished.reason == "cancelled"
        assert rest[-1].finished.account.decode_instance == "west-d"
        assert not (await west.Cancel(pb.CancelRequest(request_id="hog"))).found


async def test_one_id_for_two_kinds_of_call(model: Path) -> None:
    async with running(model) as fleet, fleet.calling("west-d") as west:
        call = Generating(west, generate("same", max_tokens=40))
        assert await failure_code(west.Prefill(prefill(fleet, "same", "127.0.0.1:1"))) == "peer_lost"
        assert [event async for event in call][-1].finished.reason == "length"


async def test_transfers_that_wait_their_turn_on_a_slow_link_do_not_fall_back(model: Path) -> None:
    async with running(model, transport={"stall_s": 2.0, "frame_bytes": 65536}) as fleet:
        await fleet.throttle(gbit_s=0.008)
        asks = [fleet.ask(prompt_of(400, skip=31 * i), prefill="remote") for i in range(5)]
        assert [a.account["fallback"] for a in await asyncio.gather(*asks)] == [None] * 5


async def test_a_hung_engine_is_noticed_before_its_first_chunk(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(model, transport={"stall_s": 0.5, "frame_bytes": 65536}) as fleet:
        expected = await fleet.ask(prompt_of(400), prefill="local")
        hung = threading.Event()
        runner = fleet.engines["east-p"].engine._runner
        run = type(runner).run
        monkeypatch.setattr(
            ModelRunner, "run", lambda this, *plan: (this is runner and hung.wait(60)) or run(this, *plan)
        )
        answer = await fleet.ask(prompt_of(400), prefill="remote")
        hung.set()
        assert answer.account["fallback"] == "deadline_exceeded"
        assert answer.tokens == expected.tokens


async def test_a_broken_engine_fails_its_requests_at_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(model) as fleet:
        server = fleet.instances["west-d"].server
        async with fleet.calling("west-d") as west:
            call = aiter(Generating(west, generate("a", max_tokens=3000)))
            await anext(call)
            monkeypatch.setattr(fleet.engines["west-d"].engine._scheduler, "plan", None)
            assert await failure_code(call) == "engine_failed"
            assert await failure_code(Generating(west, generate("b"))) == "engine_failed"
        with pytest.raises(Exception, match="the engine broke"):
            await server.wait()
        fleet.instances.pop("west-d")
        await server.drain_and_stop(0)

"""What routers can say on a stream of requests, and what they hear."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceServicer, InstanceStub, add_InstanceServicer_to_server
from prfaas.core.request import FinishReason
from prfaas.instance.attend import Answer, AttendContext, AttendService, Commands
from tests.eventually import eventually_async

PATH = "/prfaas.control.v1.Instance/Attend"


@dataclass
class Told:
    """Requests whose tokens come when a test says so."""

    answers: dict[str, Answer] = field(default_factory=dict)
    ends: dict[str, "asyncio.Future[FinishReason]"] = field(default_factory=dict)
    freed: list[str] = field(default_factory=list)

    async def generate(self, message: pb.GenerateRequest, answer: Answer) -> None:
        name = message.request_id
        self.answers[name], self.ends[name] = answer, asyncio.get_running_loop().create_future()
        try:
            answer.finished(await self.ends[name], pb.Account(decode_instance="d"))
        except asyncio.CancelledError:
            self.freed.append(name)
            raise

    def cancel(self, request_id: str) -> bool:
        if request_id.startswith("early"):
            return False
        self.ends[request_id].set_result(FinishReason.CANCELLED)
        return True


class Served(InstanceServicer):
    def __init__(self, attend: AttendService) -> None:
        self.attend = attend
        self.draining = False

    async def Attend(self, commands: Commands, context: AttendContext) -> None:  # type: ignore[override] # noqa: N802
        await self.attend.serve(commands, context, takes=lambda: not self.draining)


@dataclass
class Router:
    """One stream, read by hand."""

    stream: Any

    async def say(self, *commands: pb.AttendCommand) -> None:
        await self.stream.write(pb.AttendCommands(commands=commands))

    async def hear(self) -> pb.AttendEvents:
        message = await self.stream.read()
        assert isinstance(message, pb.AttendEvents), "the stream ended"
        return message

    async def hear_last(self) -> pb.CallEvent:
        (event,) = (await self.hear()).events
        return event

    async def failure(self) -> tuple[int, str]:
        event = await self.hear_last()
        return event.call, event.event.failure.code


@dataclass
class Rig:
    told: Told
    served: Served
    channel: grpc.aio.Channel

    def router(self) -> Router:
        return Router(InstanceStub(self.channel).Attend())

    async def running(self, count: int) -> None:
        await eventually_async(lambda: self.served.attend.num_running == count == len(self.told.ends))


@asynccontextmanager
async def rig(max_calls: int = 100) -> AsyncIterator[Rig]:
    told = Told()
    served = Served(AttendService("d", told, max_calls))  # type: ignore[abstract]
    server = grpc.aio.server()
    add_InstanceServicer_to_server(served, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield Rig(told, served, channel)
    await server.stop(0)


def begin(call: int, name: str = "") -> pb.AttendCommand:
    return pb.AttendCommand(call=call, generate=pb.GenerateRequest(request_id=name or f"r{call}"))


def stop(call: int, *, account: bool) -> pb.AttendCommand:
    return pb.AttendCommand(call=call, stop=pb.StopCall(account=account))


async def test_what_one_turn_of_the_loop_did_is_one_message() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(*(begin(call) for call in range(64)))
        await it.running(64)
        for call in range(64):
            it.told.answers[f"r{call}"].token(100 + call, None)
        it.told.ends["r7"].set_result(FinishReason.STOP)
        message = await router.hear()
        assert [(t.call, list(t.token_ids)) for t in message.tokens] == [(call, [100 + call]) for call in range(64)]
        assert [(e.call, e.event.finished.reason) for e in message.events] == [(7, "stop")]


async def test_whoever_wants_no_account_hears_of_no_more_than_the_end() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1), begin(2))
        await it.running(2)
        await router.say(stop(1, account=False))
        assert await router.failure() == (1, "cancelled")
        assert it.told.freed == ["r1"]
        assert it.served.attend.num_running == 1


async def test_whoever_wants_the_account_gets_it_if_there_is_a_first_token() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1, "late"), begin(2, "early"))
        await it.running(2)
        await router.say(stop(1, account=True))
        assert (await router.hear_last()).event.finished.account.decode_instance == "d"
        await router.say(stop(2, account=True))
        assert await router.failure() == (2, "cancelled")
        await router.say(stop(2, account=True), stop(99, account=False), begin(3))
        await eventually_async(lambda: "r3" in it.told.ends)


async def test_a_request_that_is_stopped_at_once_is_freed() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1), stop(1, account=False))
        assert await router.failure() == (1, "cancelled")
        assert it.served.attend.num_running == 0


async def test_a_router_that_goes_frees_its_own_requests() -> None:
    async with rig() as it:
        going, staying = it.router(), it.router()
        await going.say(begin(1, "a"), begin(2, "b"))
        await staying.say(begin(1, "c"))
        await it.running(3)
        going.stream.cancel()
        await eventually_async(lambda: it.served.attend.num_running == 1)
        assert sorted(it.told.freed) == ["a", "b"]
        it.told.ends["c"].set_result(FinishReason.STOP)
        assert (await staying.hear_last()).call == 1


async def test_bytes_that_are_no_message_end_the_stream_and_free_what_ran_on_it() -> None:
    async with rig() as it:
        raw: Any = it.channel.stream_stream(PATH)()
        await raw.write(pb.AttendCommands(commands=[begin(1)]).SerializeToString())
        await it.running(1)
        await raw.write(b"\xff\xff\xff garbage")
        with pytest.raises(grpc.aio.AioRpcError):
            await raw.read()
        await eventually_async(lambda: it.told.freed == ["r1"] and it.served.attend.num_running == 0)


async def test_a_router_that_has_no_more_to_say_hears_the_rest() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1))
        await router.stream.done_writing()
        await it.running(1)
        it.told.ends["r1"].set_result(FinishReason.LENGTH)
        assert (await router.hear_last()).event.finished.reason == "length"
        assert await router.stream.read() is grpc.aio.EOF


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (pb.AttendCommand(call=5, generate=pb.GenerateRequest()), "invalid_request"),
        (pb.AttendCommand(call=5), "invalid_request"),
        (begin(5, "r1"), "engine_failed"),
    ],
)
async def test_misuse_ends_its_own_call_only(wrong: pb.AttendCommand, code: str) -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1), wrong)
        assert await router.failure() == (5, code)
        it.told.ends["r1"].set_result(FinishReason.STOP)
        assert (await router.hear_last()).event.finished.reason == "stop"


async def test_a_number_that_comes_twice_ends_both() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1, "first"))
        await it.running(1)
        await router.say(begin(1, "second"), begin(2))
        assert await router.failure() == (1, "invalid_request")
        await eventually_async(lambda: it.told.freed == ["first"])
        it.told.ends["r2"].set_result(FinishReason.STOP)
        assert (await router.hear_last()).call == 2


async def test_more_requests_than_an_instance_may_have_go_elsewhere() -> None:
    async with rig(max_calls=2) as it:
        one, two = it.router(), it.router()
        await one.say(begin(1, "a"), begin(2, "b"))
        await it.running(2)
        await two.say(begin(1, "c"))
        assert await two.failure() == (1, "unavailable")
        await one.say(stop(1, account=False))
        await one.failure()
        await two.say(begin(2, "d"))
        await eventually_async(lambda: "d" in it.told.ends)


async def test_an_instance_that_drains_ends_what_it_has_and_tells_all_of_it() -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1))
        await it.running(1)
        it.served.draining = True
        await router.say(begin(2))
        assert await router.failure() == (2, "draining")
        drained = asyncio.create_task(it.served.attend.finished())
        it.told.ends["r1"].set_result(FinishReason.STOP)
        await drained
        assert (await router.hear_last()).event.finished.reason == "stop"


async def test_a_bug_fails_one_request(caplog: pytest.LogCaptureFixture) -> None:
    async with rig() as it:
        router = it.router()
        await router.say(begin(1), begin(2))
        await it.running(2)
        it.told.ends["r1"].set_exception(ZeroDivisionError("ours"))
        assert await router.failure() == (1, "engine_failed")
        assert any(record.exc_info and "r1" in record.message for record in caplog.records)
        assert it.served.attend.num_running == 1

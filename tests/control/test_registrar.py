"""An instance stays known to its router: across refusals, restarts and silence."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from prfaas.control.registrar import Registrar
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetServicer, add_FleetServicer_to_server
from tests.eventually import eventually_async

LINK = pb.LinkReport(cluster="east", bytes_per_s=1e8)
INFO = pb.InstanceInfo(instance_id="i", cluster="west", epoch=5)
Context = grpc.aio.ServicerContext[object, object]


class FakeRouter(FleetServicer):
    """Remembers what it is told; `known` is what it answers to heartbeats."""

    def __init__(self) -> None:
        self.registered: list[str] = []
        self.beats = 0
        self.links: list[pb.LinkReport] = []
        self.gone: list[int] = []
        self.known = True
        self.refuse = 0
        self.keys: list[str] = []
        """What the instance heard of followers."""

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterReply:
        if self.refuse:
            self.refuse -= 1
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another model")
        self.registered.append(request.instance.instance_id)
        self.known = True
        return pb.RegisterReply(heartbeat_interval_s=0.02, kv_follower_key="k" * 40)

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatReply:  # noqa: ARG002
        assert request.epoch == 5
        self.beats += 1
        self.links = list(request.links)
        return pb.HeartbeatReply(known=self.known)

    async def Deregister(self, request: pb.DeregisterRequest, context: Context) -> pb.DeregisterReply:  # noqa: ARG002
        self.gone.append(request.epoch)
        return pb.DeregisterReply()


@asynccontextmanager
async def joined(router: FakeRouter) -> AsyncIterator[Registrar]:
    server = grpc.aio.server()
    add_FleetServicer_to_server(router, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        registrar = Registrar(lambda: channel, INFO, pb.Load, lambda: [LINK], router.keys.append)
        registrar.start()
        try:
            yield registrar
        finally:
            await registrar.stop()
            await server.stop(0)


async def test_registers_beats_and_says_goodbye() -> None:
    router = FakeRouter()
    async with joined(router) as registrar:
        await registrar.registered.wait()
        await eventually_async(lambda: router.beats > 2)
    assert router.links == [LINK]
    assert router.registered == ["i"]
    assert router.gone == [5]
    assert router.keys == ["k" * 40]


async def test_registers_again_with_a_router_that_forgot() -> None:
    router = FakeRouter()
    async with joined(router) as registrar:
        await registrar.registered.wait()
        router.known = False
        await eventually_async(lambda: len(router.registered) == 2)


async def test_a_refusal_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    router = FakeRouter()
    router.refuse = 4
    async with joined(router) as registrar:
        await registrar.registered.wait()
    assert [r.message for r in caplog.records if "another model" in r.message] == [
        "the router cannot be reached or refuses us: FAILED_PRECONDITION: another model"
    ]

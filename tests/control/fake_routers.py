"""Routers that remember what instances tell them, and an instance that tells them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from prfaas.control.registrar import Reports
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetServicer, add_FleetServicer_to_server

LINK = pb.LinkReport(cluster="east", bytes_per_s=1e8)
EPOCH = 5
Context = grpc.aio.ServicerContext[object, object]


@dataclass
class FakeRouter(FleetServicer):
    """`known` is what it answers to heartbeats until somebody registers."""

    interval_s: float = 0.02
    key: str = "k" * 40
    names: list[str] = field(default_factory=list)
    """The routers that it tells of."""
    known: bool = True
    refuse: int = 0
    registered: list[pb.InstanceInfo] = field(default_factory=list)
    beats: list[pb.HeartbeatRequest] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    address: str = ""

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterReply:
        if self.refuse:
            self.refuse -= 1
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another model")
        self.registered.append(request.instance)
        self.known = True
        return pb.RegisterReply(
            heartbeat_interval_s=self.interval_s, kv_follower_key=self.key, routers=[self.address, *self.names]
        )

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatReply:  # noqa: ARG002
        assert request.epoch == EPOCH
        self.beats.append(request)
        return pb.HeartbeatReply(known=self.known)

    async def Deregister(self, request: pb.DeregisterRequest, context: Context) -> pb.DeregisterReply:  # noqa: ARG002
        self.gone.append(request.epoch)
        return pb.DeregisterReply()

    async def SetRole(self, request: pb.SetRoleRequest, context: Context) -> pb.SetRoleReply:  # noqa: ARG002
        raise AssertionError("no instance asks for that")

    async def serve(self) -> grpc.aio.Server:
        """On the address that it had before, if it had one."""
        server = grpc.aio.server()
        add_FleetServicer_to_server(self, server)
        port = server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await server.start()
        return server


@asynccontextmanager
async def serving(*routers: FakeRouter) -> AsyncIterator[None]:
    servers = [await router.serve() for router in routers]
    try:
        yield
    finally:
        for server in servers:
            await server.stop(0)


@dataclass
class Teller:
    """An instance as far as routers hear of it."""

    load: pb.Load = field(default_factory=pb.Load)
    role: pb.Role = pb.ROLE_DECODE

    def reports(self) -> Reports:
        return Reports(self.info, lambda: self.load, lambda: [LINK])

    def info(self) -> pb.InstanceInfo:
        return pb.InstanceInfo(instance_id="i", cluster="west", epoch=EPOCH, role=self.role)

"""A prefill instance that takes every call and never sends a byte of KV: hung, or merely talkative."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub, InstanceServicer, add_InstanceServicer_to_server
from tests.fleet.rig import InProcessFleet

PrefillContext = grpc.aio.ServicerContext[pb.PrefillRequest, pb.PrefillEvent]


class SilentPrefill(InstanceServicer):
    """`talkative` keeps reporting that nothing has been computed yet; `hasty` ends the call at once."""

    def __init__(self, *, talkative: bool = False, hasty: bool = False) -> None:
        self._talkative = talkative
        self._hasty = hasty
        self.calls = 0
        self.cancelled = 0

    async def Prefill(self, request: pb.PrefillRequest, context: PrefillContext) -> None:  # type: ignore[override] # noqa: ARG002
        self.calls += 1
        try:
            while not self._hasty:
                await asyncio.sleep(0.05)
                if self._talkative:
                    await context.write(pb.PrefillEvent(progress=pb.PrefillProgress(tokens_done=0, moving=False)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def Attend(self, commands: object, context: object) -> None:  # type: ignore[override] # noqa: ARG002
        raise AssertionError("nobody asks a prefill instance to generate")

    async def Announce(self, request: pb.AnnounceRequest, context: object) -> pb.AnnounceReply:  # noqa: ARG002
        return pb.AnnounceReply()

    async def Cancel(self, request: pb.CancelRequest, context: object) -> pb.CancelReply:  # noqa: ARG002
        return pb.CancelReply(found=False)

    async def Drain(self, request: pb.DrainRequest, context: object) -> pb.DrainReply:  # noqa: ARG002
        return pb.DrainReply()

    async def ChangeRole(self, request: pb.ChangeRoleRequest, context: object) -> pb.ChangeRoleReply:  # noqa: ARG002
        return pb.ChangeRoleReply(refusal="it only prefills")


@asynccontextmanager
async def instead_of_east(fleet: InProcessFleet, servicer: SilentPrefill) -> AsyncIterator[None]:
    """Stops the real prefill instance of the remote cluster and registers the silent one in its place."""
    fingerprint = fleet.instances["west-d"].identity.model_fingerprint
    await fleet.stop("east-p")
    server = grpc.aio.server()
    add_InstanceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    info = pb.InstanceInfo(
        instance_id="east-silent",
        cluster="east",
        role=pb.ROLE_PREFILL,
        epoch=1,
        control_address=f"127.0.0.1:{port}",
        data_address="127.0.0.1:1",
        metrics_address="127.0.0.1:1",
        model_name="tiny",
        model_fingerprint=fingerprint,
        max_context_tokens=8192,
    )
    async with grpc.aio.insecure_channel(fleet.router.control_address) as channel:
        await FleetStub(channel).Register(pb.RegisterRequest(instance=info, load=pb.Load()))
    try:
        yield
    finally:
        # A gRPC server that is forgotten while it runs keeps the process from ending.
        await server.stop(0)

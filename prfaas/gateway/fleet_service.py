"""The Fleet gRPC service: instances register here and send their heartbeats. Judges nothing; the registry does."""

import logging

import grpc

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetServicer
from prfaas.gateway.admission import RefusedError
from prfaas.gateway.kv_follower import KvFollower
from prfaas.gateway.registry import Registry

log = logging.getLogger(__name__)


class FleetService(FleetServicer):
    """Instance → router: I am here, I am still here, I leave."""

    def __init__(self, registry: Registry, follower: KvFollower, heartbeat_interval_s: float) -> None:
        self._registry = registry
        self._follower = follower
        self._heartbeat_interval_s = heartbeat_interval_s

    async def Register(  # noqa: N802 — gRPC's spelling
        self,
        request: pb.RegisterRequest,
        context: grpc.aio.ServicerContext[pb.RegisterRequest, pb.RegisterReply],
    ) -> pb.RegisterReply:
        """Refuses with INVALID_ARGUMENT, FAILED_PRECONDITION or ALREADY_EXISTS and the reason in words."""
        try:
            self._registry.register(request.instance, request.load)
        except RefusedError as refused:
            log.warning("registration from %s refused: %s", context.peer(), refused.message)
            await context.abort(refused.status, refused.message)
        self._follower.reconcile(self._registry.infos())
        return pb.RegisterReply(
            heartbeat_interval_s=self._heartbeat_interval_s, kv_follower_key=self._follower.public_key
        )

    async def Heartbeat(  # noqa: N802 — gRPC's spelling
        self,
        request: pb.HeartbeatRequest,
        context: grpc.aio.ServicerContext[pb.HeartbeatRequest, pb.HeartbeatReply],
    ) -> pb.HeartbeatReply:
        """known=false asks the instance to register again; an impossible load is refused with INVALID_ARGUMENT."""
        try:
            known = self._registry.heartbeat(
                request.instance_id,
                request.epoch,
                request.load,
                request.links,
                request.rates if request.HasField("rates") else None,
            )
        except RefusedError as refused:
            await context.abort(refused.status, refused.message)
        return pb.HeartbeatReply(known=known)

    async def Deregister(  # noqa: N802 — gRPC's spelling
        self,
        request: pb.DeregisterRequest,
        context: grpc.aio.ServicerContext[pb.DeregisterRequest, pb.DeregisterReply],  # noqa: ARG002
    ) -> pb.DeregisterReply:
        """Idempotent, so that an instance may leave without knowing whether the router remembers it."""
        self._registry.deregister(request.instance_id, request.epoch)
        self._follower.reconcile(self._registry.infos())
        return pb.DeregisterReply()

"""The Fleet gRPC service: instances register here and send their heartbeats. Judges nothing; the registry does."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import grpc

from prfaas.control.convert import ROLE_FROM_PB
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetServicer
from prfaas.gateway.kv_follower import KvFollower
from prfaas.gateway.registration import RefusedError
from prfaas.gateway.registry import Registry
from prfaas.gateway.role_calls import RoleCalls
from prfaas.telemetry.role_metrics import RouterRoleMetrics

log = logging.getLogger(__name__)


class FleetService(FleetServicer):
    """Instance → router: I am here, I am still here, I leave. Operator → router: it shall change its role."""

    def __init__(
        self,
        registry: Registry,
        follower: KvFollower,
        roles: RoleCalls,
        heartbeat_interval_s: float,
        routers: Callable[[], Sequence[str]],
        metrics: RouterRoleMetrics,
    ) -> None:
        """`routers`: control addresses of all routers that instances should register with."""
        self._registry = registry
        self._follower = follower
        self._roles = roles
        self._routers = routers
        self._metrics = metrics
        self._heartbeat_interval_s = heartbeat_interval_s
        self.heard = asyncio.Event()
        """An instance has registered."""

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
        self.heard.set()
        self._follower.reconcile(self._registry.infos())
        return pb.RegisterReply(
            heartbeat_interval_s=self._heartbeat_interval_s,
            kv_follower_key=self._follower.public_key,
            routers=self._routers(),
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
                partial=request.partial,
            )
        except RefusedError as refused:
            await context.abort(refused.status, refused.message)
        self._metrics.heartbeats.labels("partial" if request.partial else "full").inc()
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

    async def SetRole(  # noqa: N802 — gRPC's spelling
        self,
        request: pb.SetRoleRequest,
        context: grpc.aio.ServicerContext[pb.SetRoleRequest, pb.SetRoleReply],
    ) -> pb.SetRoleReply:
        """Answers once the instance has begun; refuses with a status and the reason in words."""
        role = ROLE_FROM_PB.get(request.role)
        if role is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a role is prefill or decode")
        try:
            begun = await self._roles.change_role(request.instance_id, role, "an operator asks", ordered=True)
        except RefusedError as refused:
            await context.abort(refused.status, refused.message)
        return pb.SetRoleReply(role=begun.role, running_requests=begun.running_requests)

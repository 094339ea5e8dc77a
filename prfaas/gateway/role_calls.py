"""Asks instances to change their roles, unless the fleet could not do without what they are. Decides no roles."""

import asyncio
import logging
from collections.abc import Sequence

import grpc

from prfaas.config.sections import Role
from prfaas.control.convert import ROLE_TO_PB
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.gateway.registration import RefusedError
from prfaas.gateway.registry import FleetEntry, Registry
from prfaas.telemetry.role_metrics import RouterRoleMetrics

ANSWER_WITHIN_S = 5.0
"""An instance answers before it drains."""

log = logging.getLogger(__name__)


class RoleCalls:
    """Router → instance, one change after the other, so that each sees what the last one left."""

    def __init__(self, registry: Registry, dialer: Dialer, metrics: RouterRoleMetrics, *, alone: bool = True) -> None:
        """`alone`: there are no other routers, which may ask other instances at this moment."""
        self._alone = alone
        self._registry = registry
        self._dialer = dialer
        self._metrics = metrics
        self._asking = asyncio.Lock()

    async def change_role(
        self, instance_id: str, role: Role, reason: str, *, ordered: bool = False
    ) -> pb.ChangeRoleReply:
        """Returns once the instance has begun, and gets nothing new; heartbeats tell how it goes.

        `ordered`: an operator wants it, whatever the cool-down. Raises RefusedError: NOT_FOUND, FAILED_PRECONDITION,
        or UNAVAILABLE where the instance does not answer.
        """
        try:
            async with self._asking:
                reply = await self._change(instance_id, role, reason, ordered=ordered)
        except RefusedError as refused:
            self._metrics.asked.labels(role, "no").inc()
            log.warning("%s does not change its role to %s: %s", instance_id, role, refused.message)
            raise
        self._metrics.asked.labels(role, "yes").inc()
        log.info(
            "%s changes its role to %s (%s) when %d requests have ended",
            instance_id,
            role,
            reason,
            reply.running_requests,
        )
        return reply

    async def _change(self, instance_id: str, role: Role, reason: str, *, ordered: bool) -> pb.ChangeRoleReply:
        entry = self._registry.entry(instance_id)
        if entry is None:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"no instance {instance_id!r} has registered here")
        if refusal := needed(entry, role, self._registry.entries(), alone=self._alone):
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, refusal)
        request = pb.ChangeRoleRequest(role=ROLE_TO_PB[role], reason=reason, ordered=ordered)
        channel = self._dialer.channel(entry.info.control_address, entry.info.cluster)
        try:
            reply = await InstanceStub(channel).ChangeRole(request, timeout=ANSWER_WITHIN_S)
        except grpc.aio.AioRpcError as error:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE, f"{instance_id} does not answer: {error.details() or error.code().name}"
            ) from error
        if not reply.accepted:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, reply.refusal)
        self._registry.converting(instance_id, ROLE_TO_PB[role])
        return reply


def needed(entry: FleetEntry, role: Role, fleet: Sequence[FleetEntry], *, alone: bool) -> str | None:
    """Why an instance must stay what it is: without one that decodes there is no fleet. What else there is to say
    against it the instance says itself.

    Where routers are not `alone`, two could each take one of the last two at the same moment; so none of them takes the
    first by name.
    """
    name = entry.info.instance_id
    if entry.state == "stale":
        return f"{name} is silent for {entry.age_s:.1f} s"
    if role == "decode" or entry.role != "decode" or entry.state != "up":
        return None
    others = [
        e.info.instance_id for e in fleet if e.role == "decode" and e.state == "up" and e.info.instance_id != name
    ]
    if not others:
        return f"{name} is the last instance that decodes; have another one do so first"
    if alone or name > min(others):
        return None
    return f"{name} is the one that goes on decoding whatever other routers ask for meanwhile; choose {min(others)}"

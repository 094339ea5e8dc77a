"""One instance process: starts the parts in order, is ready once a router knows it, drains and stops in reverse."""

import asyncio
import logging
from collections.abc import Callable

import grpc

from prfaas.control.convert import ROLE_TO_PB
from prfaas.control.dial import Dialer
from prfaas.control.membership import Membership
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import add_InstanceServicer_to_server
from prfaas.core.errors import EngineError
from prfaas.instance.front import Front
from prfaas.instance.kv_events import KvEvents
from prfaas.instance.role_change import RoleChange
from prfaas.instance.served_role import ServedRole
from prfaas.instance.servicer import Servicer
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.link_sampler import LinkSampler
from prfaas.transport.outbox import Outbox
from prfaas.transport.server import DataServer

log = logging.getLogger(__name__)


class InstanceServer:
    """Owns the running parts; everything is injected."""

    def __init__(
        self,
        servicer: Servicer,
        grpc_server: grpc.aio.Server,
        data_server: DataServer,
        outbox: Outbox,
        links: LinkSampler,
        front: Front,
        kv_events: KvEvents | None,
        dialer: Dialer,
        served: ServedRole,
        membership: Callable[[Callable[[], pb.Load]], Membership],
        metrics: InstanceMetrics,
        drain_s: float,
    ) -> None:
        """`drain_s`: how long requests may take to end before a change of the role."""
        self.servicer = servicer
        self._grpc_server = grpc_server
        self._data_server = data_server
        self._outbox = outbox
        self._links = links
        self.front = front
        self._kv_events = kv_events
        self._dialer = dialer
        self.metrics = metrics
        self._served = served
        self._membership = membership(self.load)
        self._role_change = RoleChange(served, servicer, self._membership, metrics.roles, drain_s)
        front.on_stats = self._membership.look
        add_InstanceServicer_to_server(servicer, grpc_server)

    def load(self) -> pb.Load:
        """The present load, also put into the gauges."""
        stats, converting = self.front.stats, self._served.converting_to
        self.metrics.read(stats.pages_used, stats.pages_cached, stats.pages_total)
        self.metrics.queues(stats.waiting_requests, stats.running_requests)
        return pb.Load(
            waiting_requests=stats.waiting_requests,
            running_requests=stats.running_requests,
            waiting_tokens=stats.waiting_tokens,
            pages_used=stats.pages_used,
            pages_total=stats.pages_total,
            pages_cached=stats.pages_cached,
            draining=self.servicer.draining,
            converting_to=ROLE_TO_PB[converting] if converting else pb.ROLE_UNSPECIFIED,
            role_age_s=self._served.age_s,
        )

    async def start(self) -> None:
        """Returns once the instance serves and a router knows it."""
        self._data_server.start()
        self._links.start()
        if self._kv_events:
            self._kv_events.start()
        await self._grpc_server.start()
        self._membership.start()
        self._role_change.start()
        await self._membership.registered.wait()

    async def wait(self) -> None:
        """Returns never, or raises EngineError when the engine has ended and the process is of no use any more."""
        await self.front.engine_died.wait()
        raise EngineError(f"{self.front.death}; the log says why")

    async def drain_and_stop(self, timeout_s: float) -> None:
        """Takes nothing new, lets running requests end for `timeout_s`, then cancels the rest and frees everything."""
        self.servicer.leave()
        await self._role_change.stop()
        await self._membership.beat()
        try:
            async with asyncio.timeout(timeout_s):
                await self.servicer.finished()
        except TimeoutError:
            log.warning("%d requests did not end within %g s and are cancelled", self.servicer.num_running, timeout_s)
        await self._membership.stop()
        await self._grpc_server.stop(grace=0)
        await self.servicer.close()
        await self._dialer.close()
        if self._kv_events:
            await self._kv_events.close()
        # These wait for threads, which may be in the middle of a frame.
        await asyncio.to_thread(self._links.close)
        await asyncio.to_thread(self._outbox.close)
        await asyncio.to_thread(self._data_server.close)
        await self.front.stop()

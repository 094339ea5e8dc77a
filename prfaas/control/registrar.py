"""Keeps one instance known to one router: registers, heartbeats, registers again when the router forgot.

Between two heartbeats a router hears only of a load that has changed noticeably. Knows no other router.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from prfaas.control.load_change import noticeable
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
GOODBYE_TIMEOUT_S = 1.0
RETRY_S = 0.5
DEFAULT_INTERVAL_S = 1.0
LEAST_GAP_S = 0.05
"""Between two messages to a router."""
MOST_PARTIAL = 4
"""Heartbeats of a changed load between two full ones: a router has many instances, and each costs it 0.3 ms."""
FAILURES_BEFORE_WARNING = 3
"""In a row. Fewer are what starting and stopping a fleet looks like."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What an instance says of itself; each is asked when it is about to be told."""

    info: Callable[[], pb.InstanceInfo]
    load: Callable[[], pb.Load]
    links: Callable[[], Sequence[pb.LinkReport]] = tuple
    rates: Callable[[], pb.Rates | None] = lambda: None


class Registrar:
    """One router's view of us. All messages to it go out one after the other."""

    def __init__(
        self,
        router: str,
        channel: Callable[[], grpc.aio.Channel],
        reports: Reports,
        on_reply: Callable[[pb.RegisterReply], None],
    ) -> None:
        """`router`: its address. `channel` is asked at every call, since newer certificates bring another.

        `on_reply` hears what the router says at every registration.
        """
        self.router = router
        self._channel = channel
        self._reports = reports
        self._on_reply = on_reply
        self._interval_s = DEFAULT_INTERVAL_S
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._sending = asyncio.Lock()
        self._woken = asyncio.Event()
        self._told = pb.Load()
        self._beat_due_s = 0.0
        self._partial_left = 0
        self.registered = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def look(self, load: pb.Load) -> None:
        """The load may have changed since it was told."""
        if self._partial_left and self.registered.is_set() and noticeable(self._told, load):
            self._woken.set()

    def renew(self) -> None:
        """What we are has changed, so that the router must be told by a registration before anything else."""
        self.registered.clear()
        self._woken.set()

    async def beat(self) -> None:
        """One heartbeat now, e.g. because the instance begins to drain. Raises grpc.aio.AioRpcError."""
        async with self._sending:
            await self._beat(partial=False)

    async def stop(self) -> None:
        """Says goodbye, if the router can hear it."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        info = self._reports.info()
        goodbye = pb.DeregisterRequest(instance_id=info.instance_id, epoch=info.epoch)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await FleetStub(self._channel()).Deregister(goodbye, timeout=GOODBYE_TIMEOUT_S)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            await asyncio.sleep(LEAST_GAP_S if await self._spoke() else RETRY_S)
            if self.registered.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._beat_due_s):
                        await self._woken.wait()

    async def _spoke(self) -> bool:
        """Says what is due; False if the router did not take it."""
        try:
            async with self._sending:
                if self.registered.is_set():
                    await self._beat(partial=asyncio.get_running_loop().time() < self._beat_due_s)
                else:
                    await self._register()
            self._failures = 0
        except grpc.aio.AioRpcError as error:
            self._complain(f"{error.code().name}: {error.details()}")
            return False
        except Exception as error:  # the task's edge: an instance that stops beating looks dead for ever
            log.exception("registering broke")
            self._complain(repr(error))
            return False
        return True

    async def _beat(self, *, partial: bool) -> None:
        info, load = self._reports.info(), self._reports.load()
        heartbeat = pb.HeartbeatRequest(instance_id=info.instance_id, epoch=info.epoch, load=load, partial=partial)
        if not partial:
            heartbeat.links.extend(self._reports.links())
            if rates := self._reports.rates():
                heartbeat.rates.CopyFrom(rates)
        reply = await FleetStub(self._channel()).Heartbeat(heartbeat, timeout=CALL_TIMEOUT_S)
        self._has_told(load, partial=partial)
        if not reply.known:
            self.registered.clear()

    async def _register(self) -> None:
        info, load = self._reports.info(), self._reports.load()
        request = pb.RegisterRequest(instance=info, load=load)
        reply = await FleetStub(self._channel()).Register(request, timeout=CALL_TIMEOUT_S)
        self._interval_s = reply.heartbeat_interval_s or DEFAULT_INTERVAL_S
        self._has_told(load, partial=False)
        if info == self._reports.info():  # else we have become another while we told it
            self.registered.set()
        log.info("registered with the router at %s as %s", self.router, info.instance_id)
        self._on_reply(reply)

    def _has_told(self, load: pb.Load, *, partial: bool) -> None:
        self._told = load
        if partial:
            self._partial_left -= 1
        else:
            self._partial_left = MOST_PARTIAL
            self._beat_due_s = asyncio.get_running_loop().time() + self._interval_s

    def _complain(self, trouble: str) -> None:
        """Says that there is trouble once, when it lasts, and not at every attempt."""
        self._failures += 1
        if self._failures == FAILURES_BEFORE_WARNING:
            log.warning("the router at %s cannot be reached or refuses us: %s", self.router, trouble)

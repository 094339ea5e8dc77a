"""Keeps one instance known to a router: registers, heartbeats, registers again when the router forgot."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import grpc

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
RETRY_S = 0.5
DEFAULT_INTERVAL_S = 1.0
FAILURES_BEFORE_WARNING = 3
"""In a row. Fewer are what starting and stopping a fleet looks like."""


class Registrar:
    """One router's view of us. `load` and `links` are read at every heartbeat."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        instance: pb.InstanceInfo,
        load: Callable[[], pb.Load],
        links: Callable[[], Sequence[pb.LinkReport]],
        follower: Callable[[str], None],
    ) -> None:
        """`channel` is asked at every call, since newer certificates bring another.

        `follower` hears the public CURVE key of the router, if it has one, at every registration.
        """
        self._follower = follower
        self._channel = channel
        self._instance = instance
        self._load = load
        self._links = links
        self._interval_s = DEFAULT_INTERVAL_S
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self.registered = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def beat(self) -> None:
        """One heartbeat now, e.g. because the instance begins to drain."""
        heartbeat = pb.HeartbeatRequest(
            instance_id=self._instance.instance_id,
            epoch=self._instance.epoch,
            load=self._load(),
            links=self._links(),
        )
        reply = await FleetStub(self._channel()).Heartbeat(heartbeat, timeout=CALL_TIMEOUT_S)
        if not reply.known:
            self.registered.clear()

    async def stop(self) -> None:
        """Says goodbye, if the router can hear it."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        goodbye = pb.DeregisterRequest(instance_id=self._instance.instance_id, epoch=self._instance.epoch)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await FleetStub(self._channel()).Deregister(goodbye, timeout=1.0)

    async def _run(self) -> None:
        while True:
            try:
                if self.registered.is_set():
                    await self.beat()
                else:
                    await self._register()
                self._failures = 0
                pause = self._interval_s if self.registered.is_set() else RETRY_S
            except grpc.aio.AioRpcError as error:
                self._complain(f"{error.code().name}: {error.details()}")
                pause = RETRY_S
            except Exception as error:  # the task's edge: an instance that stops beating looks dead for ever
                log.exception("registering broke")
                self._complain(repr(error))
                pause = RETRY_S
            await asyncio.sleep(pause)

    async def _register(self) -> None:
        request = pb.RegisterRequest(instance=self._instance, load=self._load())
        reply = await FleetStub(self._channel()).Register(request, timeout=CALL_TIMEOUT_S)
        self._interval_s = reply.heartbeat_interval_s or DEFAULT_INTERVAL_S
        if reply.kv_follower_key:
            self._follower(reply.kv_follower_key)
        self.registered.set()
        log.info("registered with the router as %s", self._instance.instance_id)

    def _complain(self, trouble: str) -> None:
        """Says that there is trouble once, when it lasts, and not at every attempt."""
        self._failures += 1
        if self._failures == FAILURES_BEFORE_WARNING:
            log.warning("the router cannot be reached or refuses us: %s", trouble)

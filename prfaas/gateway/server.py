"""The router's two servers in one event loop: HTTP for clients, gRPC for instances."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

import grpc
import uvicorn
from fastapi import FastAPI

from prfaas.config.sections import RouterSection
from prfaas.control.credentials import Credentials
from prfaas.control.listen import listener, shared
from prfaas.control.serve_grpc import add_port, grpc_server
from prfaas.control.v1.fleet_pb2_grpc import add_FleetServicer_to_server
from prfaas.core.errors import ConfigError
from prfaas.gateway.connection_limits import ConnectionLimits
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.fleet_history import SAMPLE_S
from prfaas.gateway.fleet_service import FleetService
from prfaas.gateway.fleet_watch import FleetWatch
from prfaas.gateway.gate import Gate
from prfaas.gateway.http_connection import HttpConnection
from prfaas.gateway.kv_follower import KvFollower
from prfaas.gateway.registry import Registry
from prfaas.gateway.role_calls import RoleCalls
from prfaas.gateway.timescales import Timescales

STOP_GRACE_S = 1
INTERVALS_UNTIL_HEARD = 2
"""Instances that serve already come within so many heartbeats."""

log = logging.getLogger(__name__)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the command line, which drains first; `up` tells when connections are accepted."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RouterServer:
    """Listens on `router.http` and `router.control`. The dialer behind the dispatcher stays its builder's to close."""

    def __init__(
        self,
        config: RouterSection,
        app: FastAPI,
        registry: Registry,
        dispatcher: Dispatcher,
        follower: KvFollower,
        gate: Gate,
        credentials: Credentials | None,
        roles: RoleCalls,
        watch: FleetWatch,
        timescales: Timescales | None = None,
    ) -> None:
        """`credentials` are for `router.control` only; HTTP is as it is. Without `timescales` thresholds and roles stay
        as they are."""
        self._timescales = timescales
        self._watch = watch
        self._credentials = credentials
        self._config = config
        self.registry = registry
        self._dispatcher = dispatcher
        self._follower = follower
        self._gate = gate
        self._service = FleetService(
            registry, follower, roles, config.heartbeat_interval_s, self._routers, dispatcher.metrics.roles
        )
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                http=HttpConnection.limited(ConnectionLimits.of(config), dispatcher.metrics.connections),
                timeout_graceful_shutdown=STOP_GRACE_S,
            )
        )
        self._grpc: grpc.aio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.http_address = config.http
        """Where clients connect; the real port once started."""
        self.control_address = config.control
        """Where instances register; the real port once started."""
        self.worker_address = ""
        """Where this one of several workers answers HTTP alone."""

    async def start(self) -> None:
        """Returns when both ports answer. Raises ConfigError for an address that cannot be listened on."""
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._follower.close)
            sockets = [undo.enter_context(sock) for sock in self._listeners()]
            await self._start_grpc()
            assert self._grpc
            undo.push_async_callback(self._grpc.stop, None)
            if self._config.siblings:
                await self._until_heard()
            undo.pop_all()
        serving = asyncio.create_task(self._uvicorn.serve(sockets=sockets))
        serving.add_done_callback(lambda _: self._uvicorn.up.set())
        self._tasks = [serving, asyncio.create_task(self._sweep()), asyncio.create_task(self._watch_fleet())]
        if self._timescales:
            self._tasks.append(asyncio.create_task(self._loop(self._timescales)))
        await self._uvicorn.up.wait()
        if serving.done():
            serving.result()
        log.info("serving HTTP on %s, control on %s", self.http_address, self.control_address)

    async def wait(self) -> None:
        """Returns when the server stops; raises what broke it if it was not `drain_and_stop`."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def drain_and_stop(self, timeout_s: float) -> None:
        """Refuses new requests, lets running ones end for up to `timeout_s`, then closes both ports."""
        self._watch.close()
        await self._gate.drain(timeout_s)
        self._uvicorn.should_exit = True
        serving, periodic = self._tasks[:1], self._tasks[1:]  # none where the start was given up
        if serving:
            await asyncio.wait(serving)
        await self._dispatcher.calls.close()
        for task in periodic:
            task.cancel()
        if periodic:
            await asyncio.wait(periodic)
        if self._grpc:
            await self._grpc.stop(STOP_GRACE_S)
        await self._follower.close()

    def _listeners(self) -> Iterator[socket.socket]:
        """The port for clients; if workers share that, one of this worker alone, too."""
        config = self._config
        client = shared(config.http, "router.http") if config.siblings else listener(config.http, "router.http")
        client.setblocking(False)
        self.http_address = _with_port(config.http, client.getsockname()[1])
        yield client
        if config.siblings:
            own = listener(config.worker_http, "router.worker_http")
            own.setblocking(False)
            self.worker_address = _with_port(config.worker_http, own.getsockname()[1])
            yield own

    async def _until_heard(self) -> None:
        """A worker that was started again gets its share of the requests at once, so it should know whom to send them
        to; where there are no instances yet, it is not to wait for them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVALS_UNTIL_HEARD * self._config.heartbeat_interval_s):
                await self._service.heard.wait()

    def _routers(self) -> tuple[str, ...]:
        """Where instances register: with all workers of this router, and with its replicas."""
        own = self._config.model_copy(update={"control": self.control_address}).control_dial
        return (*(self._config.siblings or (own,)), *self._config.replicas)

    async def _start_grpc(self) -> None:
        address = self._config.control
        # gRPC says of a taken port only that it could not bind, so a socket of ours asks first.
        listener(address, "router.control").close()
        server = grpc_server(self._credentials)
        add_FleetServicer_to_server(self._service, server)
        try:
            port = add_port(server, address, self._credentials)
        except RuntimeError as error:
            raise ConfigError(f"router.control: cannot listen on {address}: {error}") from error
        await server.start()
        self._grpc = server
        self.control_address = _with_port(address, port)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._config.heartbeat_interval_s)
            self.registry.sweep()
            self._follower.reconcile(self.registry.infos())
            await self._dispatcher.prune()

    async def _watch_fleet(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self._watch.tick()

    async def _loop(self, timescales: Timescales) -> None:
        while True:
            await asyncio.sleep(self._config.heartbeat_interval_s)
            await timescales.tick()


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"

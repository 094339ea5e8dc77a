"""Keeps one instance known to all routers: those that it was told of, and those that these name. Knows no role."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import grpc

from prfaas.control.registrar import Registrar, Reports
from prfaas.control.v1 import fleet_pb2 as pb

log = logging.getLogger(__name__)


class Membership:
    """One registrar for each router. Routers share nothing, so each is told everything."""

    def __init__(
        self,
        seeds: Sequence[str],
        channel: Callable[[str], grpc.aio.Channel],
        forget: Callable[[str], Awaitable[None]],
        reports: Reports,
        follower: Callable[[str], None],
    ) -> None:
        """`seeds`: control addresses of routers that are always ours. `forget` closes the channel to one that is not.

        `follower` hears the public CURVE key of each router that has one, at every registration.
        """
        self._seeds = tuple(seeds)
        self._channel = channel
        self._forget = forget
        self._reports = reports
        self._follower = follower
        self._registrars: dict[str, Registrar] = {}
        self._named: dict[str, tuple[str, ...]] = {}
        """What each router says of all its workers and replicas."""
        self._leaving: set[asyncio.Task[None]] = set()
        self.registered = asyncio.Event()
        """Set once a router knows us."""

    @property
    def routers(self) -> tuple[str, ...]:
        """Addresses of those that we register with."""
        return tuple(self._registrars)

    def start(self) -> None:
        self._reconcile()

    def look(self) -> None:
        """The load may have changed; routers are told soon if they should know."""
        if self._registrars:
            load = self._reports.load()
            for registrar in self._registrars.values():
                registrar.look(load)

    def renew(self) -> None:
        """What we are has changed: every router is told as soon as it can be reached."""
        for registrar in self._registrars.values():
            registrar.renew()

    async def beat(self) -> None:
        """One heartbeat to each now. Those that cannot be reached miss it, and the log says so."""
        registrars = list(self._registrars.values())
        results = await asyncio.gather(*(registrar.beat() for registrar in registrars), return_exceptions=True)
        for registrar, result in zip(registrars, results, strict=True):
            if isinstance(result, grpc.aio.AioRpcError):
                log.info("the router at %s did not hear how we are: %s", registrar.router, result.details())
            elif isinstance(result, BaseException):
                raise result

    async def stop(self) -> None:
        """Says goodbye to each that can hear it."""
        registrars, self._registrars = list(self._registrars.values()), {}
        await asyncio.gather(*(registrar.stop() for registrar in registrars), *self._leaving)

    def _replied(self, router: str, reply: pb.RegisterReply) -> None:
        if router not in self._registrars:
            return
        if reply.kv_follower_key:
            self._follower(reply.kv_follower_key)
        self._named[router] = tuple(reply.routers)
        self.registered.set()
        self._reconcile()

    def _reconcile(self) -> None:
        """Begins with routers that are newly named, and ends with those that nobody names any more."""
        wanted = self._wanted()
        for router in wanted:
            if router not in self._registrars:
                self._begin(router)
        for router in self._registrars.keys() - set(wanted):
            log.info("the router at %s is named by no other any more", router)
            self._named.pop(router, None)
            leaving = asyncio.create_task(self._leave(self._registrars.pop(router)))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _wanted(self) -> list[str]:
        """All that the seeds lead to, so that two that are gone do not keep each other."""
        wanted = list(dict.fromkeys(self._seeds))
        for router in wanted:
            wanted += dict.fromkeys(named for named in self._named.get(router, ()) if named not in wanted)
        return wanted

    def _begin(self, router: str) -> None:
        registrar = Registrar(
            router, lambda: self._channel(router), self._reports, lambda reply: self._replied(router, reply)
        )
        self._registrars[router] = registrar
        registrar.start()

    async def _leave(self, registrar: Registrar) -> None:
        await registrar.stop()
        await self._forget(registrar.router)

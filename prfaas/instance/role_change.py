"""Carries out changes of an instance's role: nothing new is taken, what runs ends, routers hear of the other role.

Knows no gRPC. What is cached stays, and its events go on.
"""

import asyncio
import contextlib
import logging
from typing import Literal, Protocol

from prfaas.instance.served_role import RoleOrder, ServedRole
from prfaas.telemetry.role_metrics import RoleMetrics

CUT_S = 10.0
"""What was cancelled may take so long to free what it holds."""

log = logging.getLogger(__name__)


class Work(Protocol):
    """What an instance has to do; it refuses what is new while the role changes."""

    @property
    def num_running(self) -> int:
        """Requests."""
        ...

    async def finished(self) -> None:
        """Returns once nothing runs."""
        ...

    def cut(self) -> None:
        """Cancels all that runs."""
        ...


class Routers(Protocol):
    """Who must know."""

    async def beat(self) -> None:
        """Tells each now how we are, as far as it can be reached."""
        ...

    def renew(self) -> None:
        """Has each told what we are, as soon as it can be reached."""
        ...


class RoleChange:
    """One change after the other, as `ServedRole` takes them."""

    def __init__(self, served: ServedRole, work: Work, routers: Routers, metrics: RoleMetrics, drain_s: float) -> None:
        """`drain_s`: how long requests may take to end where an order does not say."""
        self._served = served
        self._work = work
        self._routers = routers
        self._metrics = metrics
        self._drain_s = drain_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._metrics.serves(self._served.role)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """A change under way is given up; once is enough, more does no harm."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._served.give_up()

    async def _run(self) -> None:
        while True:
            order = await self._served.order()
            try:
                await self._carry_out(order)
            except Exception:  # the task's edge: the instance must not drain for ever
                log.exception("the role is not changed")
                self._metrics.changes.labels("failed").inc()
                self._served.give_up()

    async def _carry_out(self, order: RoleOrder) -> None:
        log.info(
            "changing the role from %s to %s (%s): %d requests end first",
            self._served.role,
            order.role,
            order.reason or "no reason given",
            self._work.num_running,
        )
        await self._routers.beat()
        outcome = await self._drain(order.drain_s or self._drain_s)
        self._served.turn()
        # In the same turn of the loop, so that no heartbeat says `up` of the old role.
        self._routers.renew()
        self._metrics.serves(self._served.role)
        self._metrics.changes.labels(outcome).inc()
        log.info("serving in the role %s", self._served.role)

    async def _drain(self, drain_s: float) -> Literal["drained", "cut"]:
        try:
            async with asyncio.timeout(drain_s):
                await self._work.finished()
        except TimeoutError:
            log.warning("%d requests did not end within %g s and are cancelled", self._work.num_running, drain_s)
        else:
            return "drained"
        self._work.cut()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_S):
                await self._work.finished()
        return "cut"

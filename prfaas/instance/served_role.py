"""Which role an instance serves in, and whether it may take another. Knows neither requests nor routers."""

import asyncio
import math
from dataclasses import dataclass
from typing import Literal

from prfaas.config.sections import Role
from prfaas.core.clock import Clock


@dataclass(frozen=True, slots=True)
class RoleOrder:
    """Serve in another role."""

    role: Role | None
    """None: one that this version does not know."""
    reason: str
    drain_s: float
    """What runs longer is cancelled; 0: as the configuration says."""
    ordered: bool
    """By an operator, for whom no cool-down holds."""


class ServedRole:
    """The engine is the same for both roles: a role says what routers send."""

    def __init__(
        self, instance_id: str, role: Role, kind: Literal["prfaas", "pd"], cooldown_s: float, clock: Clock
    ) -> None:
        """`kind`: of the instance's cluster. `cooldown_s`: between two changes that no operator orders."""
        self._instance_id = instance_id
        self._kind = kind
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._since_s = clock()
        self._changed = False
        self._orders: asyncio.Queue[RoleOrder] = asyncio.Queue()
        self.role = role
        self.converting_to: Role | None = None
        """It drains in order to serve in this role."""

    @property
    def age_s(self) -> float:
        """Since it began to serve in its role."""
        return self._clock() - self._since_s

    def take(self, order: RoleOrder, *, leaving: bool) -> str | None:
        """From now on it converts; or why it does not. `leaving`: it drains in order to stop."""
        refusal = self._refusal(order, leaving=leaving)
        if refusal is None:
            self.converting_to = order.role
            self._orders.put_nowait(order)
        return refusal

    async def order(self) -> RoleOrder:
        """The next one that was taken."""
        return await self._orders.get()

    def turn(self) -> None:
        """It has drained, and serves in the role that it was converting to."""
        assert self.converting_to
        self.role, self.converting_to = self.converting_to, None
        self._since_s, self._changed = self._clock(), True

    def give_up(self) -> None:
        """It stays what it is."""
        self.converting_to = None

    def _refusal(self, order: RoleOrder, *, leaving: bool) -> str | None:
        name = self._instance_id
        if order.role is None:
            return f"{name} knows only the roles prefill and decode"
        if not (math.isfinite(order.drain_s) and order.drain_s >= 0):
            return f"{name} cannot drain for {order.drain_s} s; give a number from 0 on"
        if leaving:
            return f"{name} is draining in order to stop"
        if self.converting_to:
            return f"{name} is already changing its role to {self.converting_to}"
        if order.role == self.role:
            return f"{name} serves in the role {self.role} already"
        if order.role == "decode" and self._kind == "prfaas":
            return f"{name} is in a 'prfaas' cluster, which only prefills"
        if self._changed and not order.ordered and self.age_s < self._cooldown_s:
            return (
                f"{name} changed its role {self.age_s:.0f} s ago, and loops.cooldown_s is {self._cooldown_s:g}; "
                "`prfaas fleet set-role` does it at once"
            )
        return None

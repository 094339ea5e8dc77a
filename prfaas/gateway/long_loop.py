"""Roles, every few minutes: the long one of the PrfaaS paper's two timescales (s3.4.3), on the live fleet.

Decides nothing itself: `policy.allocate` does. Knows no instance's address, and its clock is its caller's.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import exp

from prfaas.config.sections import FleetConfig
from prfaas.core.ids import InstanceId
from prfaas.gateway.loop_state import RoleChange
from prfaas.gateway.registration import RefusedError
from prfaas.gateway.registry import FleetEntry
from prfaas.policy.allocate import AllocateParams, Allocation, Conversion, allocate
from prfaas.policy.convertible import convertible
from prfaas.policy.fleet_deployment import Seats
from prfaas.policy.lengths import Lengths
from prfaas.policy.signals import Signals
from prfaas.policy.view import ClusterView, Role

ChangeRole = Callable[[InstanceId, Role, str], Awaitable[object]]
"""Asks an instance to serve in another role, with the reason; raises RefusedError where it does not begin to."""

HISTORY = 200
EGRESS_S = 600.0
"""Time constant of what the link is taken to deliver: roles must not follow an outage of a minute."""


class SlowEgress:
    """What the link delivered over the last minutes, looked at now and then."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self.bytes_s = 0.0

    def observe(self, signals: Signals) -> None:
        now = signals.egress_bytes_s
        kept = 0.0 if self._at_s is None else exp(-(signals.at_s - self._at_s) / EGRESS_S)
        self.bytes_s = now + (self.bytes_s - now) * kept
        self._at_s = signals.at_s


class LongLoop:
    """Asks for one change at a time. What it remembers is for people: all that counts is in the heartbeats, which
    every router hears, so that all of them wait for the same cool-down and ask the same instance."""

    def __init__(self, config: FleetConfig, change_role: ChangeRole | None) -> None:
        self._change_role = change_role
        self._params = AllocateParams(
            convert_s=config.loops.convert_s, drain_s=config.router.drain_s, cooldown_s=config.loops.cooldown_s
        )
        self._kinds = {cluster.name: cluster.kind for cluster in config.clusters}
        self.conversions: deque[RoleChange] = deque(maxlen=HISTORY)
        self.off_because: str | None = None if config.loops.convert else "loops.convert is off"
        if self.off_because is None and change_role is None:
            self.off_because = "this router cannot change roles"

    @property
    def on(self) -> bool:
        return self.off_because is None

    async def look(
        self, entries: Sequence[FleetEntry], view: ClusterView, signals: Signals, seats: Seats, lengths: Lengths
    ) -> None:
        """Has the best instance change its role, if that pays. `seats`: with the egress of the last minutes."""
        home = [e for e in entries if self._kinds.get(e.info.cluster) == "pd" and e.state != "stale"]
        if not home or any(e.load.converting_to for e in home):
            return
        youngest_s = min(e.load.role_age_s + e.age_s for e in home)
        allocation = Allocation(seats.n_p, seats.n_d, signals.at_s - youngest_s)
        conversion = allocate(allocation, signals, seats.deployment, lengths, self._params)
        if conversion and (instance := convertible(view, conversion.role_from)):
            await self._ask(instance.instance_id, conversion, signals.at_s)

    async def _ask(self, instance_id: InstanceId, conversion: Conversion, now_s: float) -> None:
        assert self._change_role
        refusal = ""
        try:
            await self._change_role(instance_id, conversion.role_to, conversion.reason)
        except RefusedError as refused:
            refusal = refused.message
        self.conversions.append(RoleChange(now_s, instance_id, conversion.role_to, conversion.reason, refusal))

"""The demo's second act: the link between the datacenters gets slow while requests come, and the router answers that.

Changes the link as `prfaas link set` does; knows nothing of why the threshold moves.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from prfaas.cli.demo_client import DemoClient, Result
from prfaas.cli.demo_prompts import mixed_asks
from prfaas.cli.fleet_roles import FleetStatus
from prfaas.cli.link_relay import change
from prfaas.config.sections import FleetConfig, LinkSection
from prfaas.gateway.fleet_reply import FleetReply

SLOWER = 100.0
"""So many times. A prompt's KV then takes longer to cross than its prefill takes."""
CONCURRENCY = 3
SHOWN_ROUNDS = 2
"""Of each phase, once the threshold is where it belongs."""
FOLLOWS_WITHIN_S = 25.0
"""The router measures what prompts take first; the instances tell it every five seconds."""
MOVES_WITHIN_S = 25.0


@dataclass(frozen=True, slots=True)
class Phase:
    """Requests at one rate of the link; the threshold and its reason are those with which they ended."""

    gbit_s: float
    threshold_tokens: int
    reason: str
    results: tuple[Result, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "gbit_s": self.gbit_s,
            "threshold_tokens": self.threshold_tokens,
            "reason": self.reason,
            "requests": [result.account for result in self.results],
        }


@dataclass(frozen=True, slots=True)
class LinkAct:
    """`held`: why the threshold did not follow; empty: it did."""

    link: str
    before: Phase
    after: Phase
    held: str

    def as_json(self) -> dict[str, Any]:
        phases = {"before": self.before.as_json(), "after": self.after.as_json()}
        return {"name": self.link, "held": self.held} | phases


def slowed_link(config: FleetConfig) -> LinkSection | str:
    """The first link to a prfaas cluster that a relay shapes; or why there is no such act."""
    if config.policy.name != "prfaas" or not config.loops.retune:
        return "the fleet file fixes the threshold"
    remote = {cluster.name for cluster in config.clusters if cluster.kind == "prfaas"}
    shaped = (link for link in config.links if link.relay and remote & set(link.between))
    return next(shaped, "no relay of the fleet file shapes a link to a prfaas cluster")


class SlowLink:
    """Plays the act: requests of mixed lengths, at the file's rate until the threshold follows, then at a fraction."""

    def __init__(self, client: DemoClient, status: FleetStatus, link: LinkSection, tell: Callable[[str], None]) -> None:
        """`tell` hears what is being waited for."""
        self._client, self._status, self._link, self._tell = client, status, link, tell
        self._numbers = count()

    async def play(self) -> LinkAct:
        """The link has the file's rate again afterwards."""
        fast, slow = self._link.gbit_s, self._link.gbit_s / SLOWER
        self._tell("the router measures what prompts take, and its threshold begins to follow")
        fleet = await self._until(_follows, FOLLOWS_WITHIN_S)
        before = await self._phase(fast)
        await asyncio.to_thread(change, self._link, {"gbit_s": slow})
        self._tell(f"the link has {slow:g} Gbit/s now; the router finds out by what crosses")
        within_s = MOVES_WITHIN_S if _follows(fleet) else 0.0
        fleet = await self._until(lambda f: f.threshold_tokens > before.threshold_tokens, within_s)
        after = await self._phase(slow)
        await asyncio.to_thread(change, self._link, {"gbit_s": fast})
        return LinkAct(self._link.name, before, after, _held(fleet, before, after))

    async def _until(self, there: Callable[[FleetReply], bool], within_s: float) -> FleetReply:
        """Sends requests until the fleet is there, or so long."""
        end_s = time.monotonic() + within_s
        while not there(fleet := await self._fleet()) and time.monotonic() < end_s:
            await self._round()
        return fleet

    async def _phase(self, gbit_s: float) -> Phase:
        results = [result for _ in range(SHOWN_ROUNDS) for result in await self._round()]
        fleet = await self._fleet()
        return Phase(gbit_s, fleet.threshold_tokens, _reason(fleet), tuple(results))

    async def _round(self) -> list[Result]:
        return await self._client.ask_all(mixed_asks(next(self._numbers)), CONCURRENCY, lambda _: None)

    async def _fleet(self) -> FleetReply:
        return await asyncio.to_thread(self._status.read)


def _follows(fleet: FleetReply) -> bool:
    return fleet.loops is not None and fleet.loops.threshold_off_because is None


def _reason(fleet: FleetReply) -> str:
    return fleet.loops.threshold_reason if fleet.loops else ""


def _held(fleet: FleetReply, before: Phase, after: Phase) -> str:
    if fleet.loops is None:
        return "this router has no loops"
    if fleet.loops.threshold_off_because:
        return fleet.loops.threshold_off_because
    if after.threshold_tokens <= before.threshold_tokens:
        return f"{after.reason}; it was to rise within {MOVES_WITHIN_S:g} s"
    return ""

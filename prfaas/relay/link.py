"""The link itself: its profile, its two directions, whether it is up, and the tunnels that share it."""

import asyncio
import logging
from contextlib import suppress
from random import Random

import msgspec

from prfaas.relay.shaping import LinkProfile, OneWay
from prfaas.relay.tunnel import Tunnel

logger = logging.getLogger(__name__)


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """The link at one moment. `bytes_*` count what was delivered; forward is client → target."""

    profile: LinkProfile
    up: bool
    connections: int
    bytes_forward: int
    bytes_backward: int
    queue_bytes: int
    resets: int
    bits_flipped: int


class Link:
    """One emulated link. Belongs to one event loop."""

    def __init__(self, profile: LinkProfile, rng: Random) -> None:
        self.profile = profile
        self.up = True
        self.closed = False
        self.forward = OneWay(profile, rng)
        self.backward = OneWay(profile, rng)
        self._tunnels: set[Tunnel] = set()
        self._resets = 0
        self._flowing = asyncio.Event()
        self._mark_flowing()

    def state(self) -> LinkState:
        return LinkState(
            profile=self.profile,
            up=self.up,
            connections=len(self._tunnels),
            bytes_forward=self.forward.carried_bytes,
            bytes_backward=self.backward.carried_bytes,
            queue_bytes=sum(tunnel.held_bytes for tunnel in self._tunnels),
            resets=self._resets,
            bits_flipped=self.forward.flips.flipped + self.backward.flips.flipped,
        )

    def set_profile(self, profile: LinkProfile) -> None:
        """Holds for chunks not yet scheduled; the time of resets and a stall also for connections that are open."""
        logger.info("link profile: %s", profile)
        self.profile = profile
        self.forward.apply(profile)
        self.backward.apply(profile)
        self._mark_flowing()
        for tunnel in self._tunnels:
            self._arm_reset(tunnel)
            tunnel.resume()

    async def flows_within(self, timeout_s: float) -> bool:
        """True at once unless the link is stalled; False if it still is after that time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._flowing.wait(), timeout_s)
        return self._flowing.is_set()

    def set_up(self, up: bool) -> None:
        """Takes the link down (every connection is reset, new ones are refused) or up again."""
        if up != self.up:
            logger.info("link goes %s", "up" if up else "down")
        self.up = up
        if not up:
            for tunnel in self._tunnels:
                tunnel.reset()

    def new_tunnel(self) -> Tunnel:
        """A tunnel that still has to dial its target; it counts as a connection once it is started."""
        return Tunnel(self.forward, self.backward, self._count_reset)

    def start(self, tunnel: Tunnel, client: asyncio.Transport, early: bytes) -> None:
        self._tunnels.add(tunnel)
        tunnel.closed.add_done_callback(lambda _: self._tunnels.discard(tunnel))
        tunnel.start(client, early)
        self._arm_reset(tunnel)

    async def close(self) -> None:
        """Takes the link down for good, and returns once every tunnel is closed."""
        self.closed = True
        self.set_up(False)
        while self._tunnels:
            await asyncio.wait([tunnel.closed for tunnel in self._tunnels])

    def _arm_reset(self, tunnel: Tunnel) -> None:
        after_s = self.profile.reset_every_s
        tunnel.reset_at(tunnel.opened_s + after_s if after_s else None)

    def _mark_flowing(self) -> None:
        if self.profile.stalled:
            self._flowing.clear()
        else:
            self._flowing.set()

    def _count_reset(self) -> None:
        self._resets += 1

"""The relay's listening side: accepts clients, owns the link, and closes everything it opened."""

import asyncio
import errno
import logging
from random import Random

from prfaas.core.errors import ConfigError
from prfaas.relay.handshake import Handshake
from prfaas.relay.link import Link, LinkState
from prfaas.relay.shaping import LinkProfile

logger = logging.getLogger(__name__)

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_BACKLOG = 512


class RelayServer:
    """A running relay; `serve_relay` starts one."""

    def __init__(self, link: Link, server: asyncio.Server, handshakes: set[Handshake]) -> None:
        self._link = link
        self._server = server
        self._handshakes = handshakes
        self.port: int = server.sockets[0].getsockname()[1]

    def stats(self) -> LinkState:
        return self._link.state()

    def set_profile(self, profile: LinkProfile) -> None:
        """Changes the link in flight; see `Link.set_profile`."""
        self._link.set_profile(profile)

    def set_up(self, up: bool) -> None:
        """Takes the link down, which resets every connection, or up again."""
        self._link.set_up(up)

    async def close(self) -> None:
        """Stops listening, resets every connection, and returns when all sockets are closed."""
        self._server.close()
        await self._link.close()
        while self._handshakes:
            waiting = [handshake.closed for handshake in self._handshakes]
            for handshake in self._handshakes:
                handshake.abort()
            await asyncio.wait(waiting)
        await self._server.wait_closed()


async def serve_relay(
    listen_host: str,
    listen_port: int,
    profile: LinkProfile,
    *,
    allowed_hosts: frozenset[str] = LOOPBACK_HOSTS,
    seed: int = 0,
) -> RelayServer:
    """Starts a relay on the running loop. Port 0 chooses a free one; `seed` fixes the draws of jitter.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    link = Link(profile, Random(seed))
    handshakes: set[Handshake] = set()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: Handshake(link, allowed_hosts, handshakes), listen_host, listen_port, backlog=_BACKLOG
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fault = f"port {listen_port} is in use; choose another with the relay's listen port (0 takes a free one)"
        else:
            fault = f"{error.strerror or error}; choose another address or port"
        raise ConfigError(f"the relay cannot listen on {listen_host}:{listen_port}: {fault}") from error
    logger.info("relay listens on %s:%d, %s", listen_host, server.sockets[0].getsockname()[1], profile)
    return RelayServer(link, server, handshakes)

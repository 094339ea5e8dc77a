"""Listening and advertising: clear errors for what cannot work."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from prfaas.control.listen import advertised, listener, reserved, shared
from prfaas.core.errors import ConfigError


def test_port_zero_gives_a_port_and_a_taken_one_an_error() -> None:
    with listener("127.0.0.1:0", "a.b") as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"a\.c: {address} is already in use.*--set a\.c=HOST:PORT"):
            listener(address, "a.c")
    listener(address, "a.c").close()


def test_several_share_an_address_that_one_keeps_for_them() -> None:
    with reserved("127.0.0.1:0", "a") as kept:
        address = f"127.0.0.1:{kept.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(kept.getsockname(), timeout=1).close()
        with shared(address, "a") as one, shared(address, "a") as other:
            one.listen()
            other.listen()
            socket.create_connection(kept.getsockname(), timeout=1).close()
            with pytest.raises(ConfigError, match="already in use"):
                reserved(address, "a")
            with pytest.raises(ConfigError, match="already in use"):
                listener(address, "a")


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no-such-host.invalid:0"])
def test_addresses_that_are_not_ours(address: str) -> None:
    with pytest.raises(ConfigError, match="a: cannot listen on"):
        listener(address, "a")


def test_ipv6_when_the_machine_has_it() -> None:
    if not socket.has_ipv6:
        pytest.skip(reason="this machine has no IPv6")
    try:
        sock = listener("[::1]:0", "a")
    except ConfigError:
        pytest.skip(reason="this machine has no IPv6 loopback")
    with sock:
        assert sock.family == socket.AF_INET6


def test_what_peers_are_told_to_dial() -> None:
    assert advertised(7, "127.0.0.1:0", None, "a") == "127.0.0.1:7"
    assert advertised(7, "0.0.0.0:0", "node-3", "a") == "node-3:7"
    assert advertised(7, "[::1]:0", None, "a") == "[::1]:7"
    with pytest.raises(ConfigError, match="advertise_host"):
        advertised(7, "0.0.0.0:0", None, "a")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_accepted_sends_small_chunks_at_once(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Either loop sees to it, as long as the socket says that it is TCP's."""

    async def accepted() -> int:
        loop = asyncio.get_running_loop()
        nodelay: asyncio.Future[int] = loop.create_future()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                sock = transport.get_extra_info("socket")
                nodelay.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        sock = listener("127.0.0.1:0", "a")
        server = await loop.create_server(Accepted, sock=sock)
        with socket.create_connection(sock.getsockname()):
            found = await nodelay
        server.close()
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(accepted()) == 1

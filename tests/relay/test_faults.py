"""However a connection ends, the other side learns it and the relay holds nothing of it any more."""

import asyncio
from collections.abc import Callable

import pytest

from prfaas.relay.server import RelayServer
from prfaas.relay.shaping import LinkProfile
from tests.relay.harness import (
    Stream,
    assert_reset,
    dial,
    echo,
    eventually,
    never_read,
    open_tunnel,
    running_relay,
    running_target,
    send_rst,
)

SLOW = LinkProfile(gbit_s=0.01, rtt_ms=50)


async def assert_empty(relay: RelayServer) -> None:
    await eventually(lambda: relay.stats().connections == 0)
    assert relay.stats().queue_bytes == 0
    assert not relay._handshakes


async def busy_tunnel(relay: RelayServer, port: int) -> Stream:
    """A tunnel whose slow link is full of bytes."""
    stream = await open_tunnel(relay, port)
    stream.writer.write(bytes(1 << 20))
    await eventually(lambda: relay.stats().queue_bytes > 0)
    return stream


async def test_a_client_that_dies_resets_the_target() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        try:
            await reader.read()
            ended.set_result("eof")
        except ConnectionResetError:
            ended.set_result("reset")

    async with running_relay(SLOW) as relay, running_target(watch) as port:
        stream = await busy_tunnel(relay, port)
        send_rst(stream.writer)
        assert await ended == "reset"
        await assert_empty(relay)
        assert relay.stats().resets == 1


async def test_a_target_that_dies_resets_the_client() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        send_rst(writer)

    async with running_relay(SLOW) as relay, running_target(die) as port:
        await assert_reset(await busy_tunnel(relay, port))
        await assert_empty(relay)


async def test_a_target_that_is_gone_before_the_tunnel_is_up() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        send_rst(writer)

    async with running_relay(SLOW) as relay, running_target(die) as port:
        await assert_reset(await open_tunnel(relay, port))
        await assert_empty(relay)


async def test_a_client_that_dies_while_its_target_is_stuck() -> None:
    async with running_relay() as relay, running_target(never_read) as port:
        stream = await open_tunnel(relay, port)
        stream.writer.write(bytes(64 << 20))
        await eventually(lambda: relay.stats().queue_bytes > 0)
        send_rst(stream.writer)
        await assert_empty(relay)


async def test_a_client_that_dies_after_its_half_close() -> None:
    async with running_relay() as relay, running_target(never_read) as port:
        stream = await open_tunnel(relay, port)
        stream.writer.write_eof()
        await asyncio.sleep(0.05)
        send_rst(stream.writer)
        await assert_empty(relay)


async def test_a_client_that_dies_while_its_target_is_dialled() -> None:
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=100)) as relay, running_target(echo) as port:
        stream = await dial(relay)
        stream.writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: any(shake._dialling for shake in relay._handshakes))
        send_rst(stream.writer)
        await eventually(lambda: not relay._handshakes)
        await assert_empty(relay)


async def test_connections_are_reset_at_their_age() -> None:
    loop = asyncio.get_running_loop()
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=0, reset_every_s=0.2)) as relay, running_target(echo) as port:
        start_s = loop.time()
        await assert_reset(await open_tunnel(relay, port))
        assert loop.time() - start_s >= 0.2
        await assert_empty(relay)
        assert relay.stats().resets == 1


async def test_a_new_age_holds_for_open_connections() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        relay.set_profile(LinkProfile(gbit_s=1, rtt_ms=0, reset_every_s=0.05))
        await assert_reset(stream)
        await assert_empty(relay)


async def down(relay: RelayServer) -> None:
    relay.set_up(False)


@pytest.mark.parametrize("end", [down, RelayServer.close], ids=["down", "close"])
async def test_the_relay_drops_what_is_on_the_way(end: Callable[[RelayServer], asyncio.Future[None]]) -> None:
    async with running_relay(SLOW) as relay, running_target(echo) as port:
        streams = [await busy_tunnel(relay, port) for _ in range(3)]
        await end(relay)
        assert relay.stats().queue_bytes == 0
        for stream in streams:
            await assert_reset(stream)
        await assert_empty(relay)


async def test_close_ends_what_is_only_half_open() -> None:
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=1000)) as relay, running_target(echo) as port:
        silent, dialling = await dial(relay), await dial(relay)
        dialling.writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: any(shake._dialling for shake in relay._handshakes))
        await eventually(lambda: len(relay._handshakes) == 2)
        await relay.close()
        assert not relay._handshakes
        await assert_reset(silent)
        await assert_reset(dialling)


async def test_closing_twice_is_harmless() -> None:
    async with running_relay() as relay:
        await relay.close()

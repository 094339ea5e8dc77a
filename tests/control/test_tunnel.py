"""The local end of a way through a CONNECT proxy: bytes both ways, refusals, and ends."""

import asyncio
import logging

import pytest

from prfaas.config.sections import split_address
from prfaas.control.tunnel import tunnel
from tests.control.kv_rig import life, listener, stored, until
from tests.relay.harness import echo, running_relay, running_target

PAYLOAD = bytes(range(256)) * 4096


async def exchange(address: str, data: bytes) -> bytes:
    """Sends and reads as much again."""
    reader, writer = await asyncio.open_connection(*split_address(address))
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.readexactly(len(data)), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_bytes_go_both_ways_on_several_connections() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        async with tunnel(f"127.0.0.1:{relay.port}", f"127.0.0.1:{port}") as address:
            parts = [PAYLOAD[i:] for i in range(3)]
            assert await asyncio.gather(*(exchange(address, part) for part in parts)) == parts
        await until(lambda: relay.stats().connections == 0)


async def test_a_far_end_that_speaks_first_and_one_that_leaves() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001
        writer.write(b"welcome")
        await writer.drain()

    async with (
        running_relay() as relay,
        running_target(greet) as port,
        tunnel(f"127.0.0.1:{relay.port}", f"127.0.0.1:{port}") as address,
    ):
        reader, writer = await asyncio.open_connection(*split_address(address))
        assert await asyncio.wait_for(reader.read(), 10) == b"welcome"
        writer.close()
        await writer.wait_closed()


async def test_the_end_of_the_tunnel_ends_its_connections() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        async with tunnel(f"127.0.0.1:{relay.port}", f"127.0.0.1:{port}") as address:
            reader, writer = await asyncio.open_connection(*split_address(address))
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await until(lambda: relay.stats().connections == 0)


async def test_a_proxy_that_refuses_or_is_no_proxy_or_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with running_relay() as relay, running_target(rude) as rude_port:
        unreachable = "127.0.0.1:9"
        for proxy, said in (
            (relay.port, "answered 502"),
            (rude_port, "did not answer as one"),
            (9, "Connect call failed"),
        ):
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                async with tunnel(f"127.0.0.1:{proxy}", unreachable) as address:
                    for _ in range(3):
                        reader, writer = await asyncio.open_connection(*split_address(address))
                        assert await asyncio.wait_for(reader.read(), 10) == b""
                        writer.close()
            [warning] = caplog.messages
            assert said in warning


async def test_kv_events_cross_a_link() -> None:
    async with running_relay() as relay, life() as publisher:
        proxy = f"127.0.0.1:{relay.port}"
        publisher.tell(stored(1))
        async with (
            tunnel(proxy, publisher.events) as events,
            tunnel(proxy, publisher.replay) as replay,
            listener(events, replay) as heard,
        ):
            await until(lambda: heard.held == {1})
            publisher.tell(stored(2))
            await until(lambda: heard.held == {1, 2})
            assert relay.stats().connections > 0
        await until(lambda: relay.stats().connections == 0)

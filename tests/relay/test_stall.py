"""A stalled link: nothing passes, nothing is refused, and neither end learns what becomes of the other."""

import asyncio

from prfaas.relay.server import RelayServer
from prfaas.relay.shaping import LinkProfile
from tests.relay.harness import (
    FAST,
    assert_reset,
    dial,
    echo,
    eventually,
    link,
    open_tunnel,
    running_relay,
    running_target,
    send_rst,
)

STALLED = LinkProfile(gbit_s=100, rtt_ms=0, stalled=True)
A_WHILE_S = 0.05


async def test_bytes_wait_and_arrive_when_it_flows_again() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        assert (await link(relay, "PUT", b'{"stalled": true}')).status == 200
        stream.writer.write(b"patience")
        await eventually(lambda: relay.stats().queue_bytes == len(b"patience"))
        await asyncio.sleep(A_WHILE_S)
        assert (relay.stats().bytes_forward, relay.stats().connections) == (0, 1)
        assert (await link(relay, "PUT", b'{"stalled": false}')).status == 200
        assert await stream.reader.readexactly(8) == b"patience"
        await stream.close()


async def test_a_new_connection_waits_too() -> None:
    async with running_relay(STALLED) as relay, running_target(echo) as port:
        opening = asyncio.create_task(open_tunnel(relay, port))
        await eventually(lambda: any(shake._dialling for shake in relay._handshakes))
        await asyncio.sleep(A_WHILE_S)
        assert not opening.done()
        relay.set_profile(FAST)
        await (await opening).close()


async def test_a_client_that_gives_up_a_new_connection_leaves_nothing() -> None:
    async with running_relay(STALLED) as relay, running_target(echo) as port:
        stream = await dial(relay)
        stream.writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: any(shake._dialling for shake in relay._handshakes))
        send_rst(stream.writer)
        await eventually(lambda: not relay._handshakes)


async def test_the_other_end_learns_of_a_reset_only_when_it_flows_again() -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        try:
            await reader.read()
        except ConnectionResetError:
            ended.set_result(None)

    async with running_relay() as relay, running_target(watch) as port:
        stream = await open_tunnel(relay, port)
        relay.set_profile(STALLED)
        send_rst(stream.writer)
        await eventually(lambda: lost_ends(relay) == 1)
        await asyncio.sleep(A_WHILE_S)
        assert not ended.done()
        assert relay.stats().resets == 0
        relay.set_profile(FAST)
        await ended
        await eventually(lambda: relay.stats().connections == 0)
        assert relay.stats().resets == 1


async def test_when_both_ends_are_gone_nothing_is_left() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await stalled.wait()
        send_rst(writer)

    stalled = asyncio.Event()
    async with running_relay() as relay, running_target(die) as port:
        stream = await open_tunnel(relay, port)
        stream.writer.write(b"x")
        await eventually(lambda: relay.stats().bytes_forward == 1)
        relay.set_profile(STALLED)
        stalled.set()
        send_rst(stream.writer)
        await eventually(lambda: relay.stats().connections == 0)


async def test_a_stalled_link_can_go_down() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        relay.set_profile(STALLED)
        relay.set_up(False)
        await assert_reset(stream)


async def test_bits_are_flipped_on_the_way() -> None:
    profile = LinkProfile(gbit_s=100, rtt_ms=0, flip_bits_per_gb=1e5)
    async with running_relay(profile) as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        stream.writer.write(bytes(1 << 20))
        received = await stream.reader.readexactly(1 << 20)
        changed = sum(byte.bit_count() for byte in received)
        assert changed == relay.stats().bits_flipped > 0
        await stream.close()


def lost_ends(relay: RelayServer) -> int:
    return sum(end.transport is None for tunnel in relay._link._tunnels for end in (tunnel.client, tunnel.target))

"""Bytes through a running relay: whole, in order, never faster than the link, half-closed in order."""

import asyncio
from collections.abc import Callable
from random import Random

import pytest
import uvloop
from xxhash import xxh3_64_hexdigest

from prfaas.relay.shaping import LinkProfile
from tests.relay.harness import (
    PATIENCE_S,
    Stream,
    echo,
    eventually,
    never_read,
    open_tunnel,
    running_relay,
    running_target,
    send_rst,
)


async def transfer(stream: Stream, data: bytes) -> bytes:
    """Sends everything, ends its half, and returns all that comes back."""

    async def send() -> None:
        stream.writer.write(data)
        await stream.writer.drain()
        stream.writer.write_eof()

    sending = asyncio.create_task(send())
    received = await asyncio.wait_for(stream.reader.read(), PATIENCE_S)
    await sending
    await stream.close()
    return received


async def test_echo_and_the_counts() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        assert relay.stats().connections == 1
        stream.writer.write(b"hello")
        assert await stream.reader.readexactly(5) == b"hello"
        assert await transfer(stream, b", world") == b", world"
        await eventually(lambda: relay.stats().connections == 0)
        stats = relay.stats()
        assert (stats.bytes_forward, stats.bytes_backward, stats.queue_bytes, stats.resets) == (12, 12, 0, 0)


async def test_bytes_right_behind_the_request_are_not_lost() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port, early=b"early ")
        assert await transfer(stream, b"late") == b"early late"


async def test_a_target_may_speak_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready")
        await reader.read()

    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=20)) as relay, running_target(greet) as port:
        stream = await open_tunnel(relay, port)
        assert await stream.reader.readexactly(9) == b"220 ready"
        await stream.close()


@pytest.mark.parametrize("jitter_ms", [0.0, 5.0])
async def test_a_large_transfer_is_whole_both_ways_and_keeps_to_the_rate(jitter_ms: float) -> None:
    profile = LinkProfile(gbit_s=0.2, rtt_ms=10, jitter_ms=jitter_ms)
    data = Random(1).randbytes(8 << 20)
    loop = asyncio.get_running_loop()
    async with running_relay(profile) as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        start_s = loop.time()
        received = await transfer(stream, data)
        elapsed_s = loop.time() - start_s
    assert xxh3_64_hexdigest(received) == xxh3_64_hexdigest(data)
    assert elapsed_s >= len(data) / profile.bytes_s + profile.rtt_ms / 1e3


async def test_connections_share_the_rate() -> None:
    profile = LinkProfile(gbit_s=0.1, rtt_ms=2)
    data = Random(2).randbytes(1 << 20)
    loop = asyncio.get_running_loop()
    async with running_relay(profile) as relay, running_target(echo) as port:
        streams = [await open_tunnel(relay, port) for _ in range(4)]
        start_s = loop.time()
        received = await asyncio.gather(*(transfer(stream, data) for stream in streams))
        assert loop.time() - start_s >= 4 * len(data) / profile.bytes_s
    assert all(part == data for part in received)


async def test_a_round_trip_takes_at_least_the_rtt() -> None:
    loop = asyncio.get_running_loop()
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=40)) as relay, running_target(echo) as port:
        start_s = loop.time()
        stream = await open_tunnel(relay, port)
        opened_s = loop.time()
        stream.writer.write(b"x")
        await stream.reader.readexactly(1)
        assert opened_s - start_s >= 0.040
        assert loop.time() - opened_s >= 0.040
        await stream.close()


async def test_half_close_comes_after_the_data_and_leaves_the_other_half_open() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        digest = xxh3_64_hexdigest(await reader.read())
        for letter in digest:
            writer.write(letter.encode())
            await writer.drain()

    data = Random(3).randbytes(300_000)
    async with running_relay(LinkProfile(gbit_s=0.5, rtt_ms=5)) as relay, running_target(answer_at_the_end) as port:
        received = await transfer(await open_tunnel(relay, port), data)
        assert received.decode() == xxh3_64_hexdigest(data)
        await eventually(lambda: relay.stats().connections == 0)
        assert relay.stats().resets == 0


async def test_a_target_that_does_not_read_stops_the_source_at_the_budget() -> None:
    profile = LinkProfile(gbit_s=100, rtt_ms=0.1)
    async with running_relay(profile) as relay, running_target(never_read) as port:
        stream = await open_tunnel(relay, port)
        stream.writer.write(bytes(64 << 20))
        held: list[int] = []

        def full_and_still() -> bool:
            held.append(relay.stats().queue_bytes)
            return len(held) > 20 and held[-1] > 0 and len(set(held[-20:])) == 1

        await eventually(full_and_still)
        assert max(held) <= profile.budget_bytes
        send_rst(stream.writer)
        await eventually(lambda: relay.stats().connections == 0)
        assert relay.stats().queue_bytes == 0


async def test_it_runs_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")
    data = Random(4).randbytes(2 << 20)

    async def through() -> bytes:
        async with running_relay(LinkProfile(gbit_s=0.5, rtt_ms=4)) as relay, running_target(echo) as port:
            return await transfer(await open_tunnel(relay, port, early=b"early"), data)

    received = await asyncio.to_thread(lambda: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(through()))
    assert received == b"early" + data


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("rtt_ms", [0, 10])
def test_targets_that_speak_before_the_tunnel_stands(
    factory: Callable[[], asyncio.AbstractEventLoop], rtt_ms: float
) -> None:
    """As a gRPC server does; with a delay, its first bytes come before the client is told that it is connected."""
    greeting = bytes(range(256)) * 1000

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    async def main() -> None:
        profile = LinkProfile(gbit_s=10, rtt_ms=rtt_ms)
        async with running_relay(profile) as relay, running_target(greet) as port:
            for _ in range(10):
                stream = await open_tunnel(relay, port)
                assert await asyncio.wait_for(stream.reader.readexactly(len(greeting)), PATIENCE_S) == greeting
                await stream.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())

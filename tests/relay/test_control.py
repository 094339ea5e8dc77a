"""`/link`: the state, changes in flight, and one clear line for what cannot be done."""

import asyncio

import msgspec
import pytest

from prfaas.relay.link import LinkState
from prfaas.relay.shaping import LinkProfile
from tests.relay.harness import ask, assert_reset, echo, eventually, link, open_tunnel, running_relay, running_target

PROFILE = LinkProfile(gbit_s=2, rtt_ms=1, jitter_ms=0.5, reset_every_s=60)


async def test_the_state_is_json() -> None:
    async with running_relay(PROFILE) as relay:
        answer = await link(relay)
        assert answer.status == 200
        assert msgspec.json.decode(answer.body) == {
            "profile": {"gbit_s": 2.0, "rtt_ms": 1.0, "jitter_ms": 0.5, "reset_every_s": 60.0}
            | {"flip_bits_per_gb": 0.0, "stalled": False},
            "up": True,
            "connections": 0,
            "bytes_forward": 0,
            "bytes_backward": 0,
            "queue_bytes": 0,
            "resets": 0,
            "bits_flipped": 0,
        }


async def test_put_changes_the_fields_it_names() -> None:
    async with running_relay(PROFILE) as relay:
        answer = await link(relay, "PUT", b'{"gbit_s": 1, "rtt_ms": 30}')
        assert answer.status == 200
        state = msgspec.json.decode(answer.body, type=LinkState)
        assert state == relay.stats()
        assert state.profile == LinkProfile(gbit_s=1, rtt_ms=30, jitter_ms=0.5, reset_every_s=60)
        assert state.up


async def test_a_new_delay_holds_for_open_connections() -> None:
    loop = asyncio.get_running_loop()
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        assert (await link(relay, "PUT", b'{"rtt_ms": 50}')).status == 200
        start_s = loop.time()
        stream.writer.write(b"x")
        await stream.reader.readexactly(1)
        assert loop.time() - start_s >= 0.050
        await stream.close()


async def test_a_new_rate_holds_for_open_connections() -> None:
    loop = asyncio.get_running_loop()
    async with running_relay() as relay, running_target(echo) as port:
        stream = await open_tunnel(relay, port)
        assert (await link(relay, "PUT", b'{"gbit_s": 0.008}')).status == 200
        start_s = loop.time()
        stream.writer.write(bytes(100_000))
        await stream.reader.readexactly(100_000)
        assert loop.time() - start_s >= 0.1
        await stream.close()


async def test_a_link_that_goes_down_resets_and_refuses_until_it_is_up() -> None:
    async with running_relay() as relay, running_target(echo) as port:
        streams = [await open_tunnel(relay, port) for _ in range(3)]
        answer = await link(relay, "PUT", b'{"up": false}')
        assert answer.status == 200
        for stream in streams:
            await assert_reset(stream)
        await eventually(lambda: relay.stats().connections == 0)
        assert (relay.stats().resets, relay.stats().up) == (3, False)
        refused = await ask(relay, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (refused.status, refused.body) == (503, b"the link is down\n")
        assert (await link(relay, "PUT", b'{"up": true}')).status == 200
        await (await open_tunnel(relay, port)).close()


async def test_a_link_that_goes_down_while_a_target_is_dialled_refuses() -> None:
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=200)) as relay, running_target(echo) as port:
        request = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        asking = asyncio.create_task(ask(relay, request))
        await eventually(lambda: any(shake._dialling for shake in relay._handshakes))
        relay.set_up(False)
        assert (await asking).status == 503
        await eventually(lambda: not relay._handshakes)
        assert relay.stats().resets == 0


@pytest.mark.parametrize(
    ("body", "clue"),
    [
        (b"", b"JSON"),
        (b"{", b"JSON"),
        (b"[1]", b"object"),
        (b'{"gbits": 1}', b"gbits"),
        (b'{"gbit_s": "fast"}', b"gbit_s"),
        (b'{"gbit_s": true}', b"gbit_s"),
        (b'{"gbit_s": 0}', b"gbit_s is 0"),
        (b'{"rtt_ms": -1, "up": false}', b"rtt_ms is -1"),
        (b'{"flip_bits_per_gb": -1}', b"flip_bits_per_gb is -1"),
        (b'{"stalled": "yes"}', b"bool"),
        (b'{"rtt_ms": 1e999}', b"out of range"),
        (b'{"up": 1}', b"bool"),
        (b'{"rtt_ms": 5, "up": null}', b"bool"),
        (b"\xff\xfe", b"JSON"),
    ],
)
async def test_bad_changes_are_400_with_one_line_and_change_nothing(body: bytes, clue: bytes) -> None:
    async with running_relay(PROFILE) as relay:
        answer = await link(relay, "PUT", body)
        assert answer.status == 400
        assert clue in answer.body
        assert answer.body.count(b"\n") == 1
        assert (relay.stats().profile, relay.stats().up) == (PROFILE, True)

"""What clients are told: refused, not allowed, malformed, too slow, down."""

import asyncio
import socket

import pytest

from prfaas.core.errors import ConfigError
from prfaas.relay import handshake
from prfaas.relay.server import serve_relay
from prfaas.relay.shaping import LinkProfile
from tests.relay.harness import FAST, PATIENCE_S, ask, dial, echo, eventually, running_relay, running_target


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_a_target_that_refuses_is_502_after_a_round_trip() -> None:
    loop = asyncio.get_running_loop()
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=20)) as relay:
        start_s = loop.time()
        answer = await ask(relay, connect(f"127.0.0.1:{closed_port()}"))
        assert loop.time() - start_s >= 0.020
        assert answer.status == 502
        assert answer.body.startswith(b"cannot reach 127.0.0.1:")
        assert answer.body.count(b"\n") == 1
        assert relay.stats().resets == 0


@pytest.mark.parametrize("target", ["example.com:443", "10.0.0.1:80", "[2001:db8::1]:80"])
async def test_targets_that_are_not_allowed_are_403(target: str) -> None:
    async with running_relay() as relay:
        answer = await ask(relay, connect(target))
        assert answer.status == 403
        assert b"not a target" in answer.body


async def test_allowed_hosts_replace_the_default() -> None:
    async with running_relay(allowed_hosts=frozenset({"127.0.0.2"})) as relay, running_target(echo) as port:
        assert (await ask(relay, connect(f"127.0.0.1:{port}"))).status == 403
        assert (await ask(relay, connect(f"127.0.0.2:{closed_port()}"))).status == 502


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x00\x01\x02 not http\r\n\r\n", 400),
        (connect("localhost"), 400),
        (connect("localhost:99999"), 400),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /link HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"HEAD /link HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /link HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431),
    ],
)
async def test_bad_requests_get_one_line_and_the_connection_ends(request_bytes: bytes, status: int) -> None:
    async with running_relay() as relay:
        answer = await ask(relay, request_bytes)
        assert answer.status == status
        assert answer.body.count(b"\n") == (0 if request_bytes.startswith(b"HEAD") else 1)


async def test_a_client_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_TIMEOUT_S", 0.05)
    async with running_relay() as relay:
        stream = await dial(relay)
        stream.writer.write(b"CONNECT localhost:1 HT")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(stream.reader.read(), PATIENCE_S)
        await stream.close()


async def test_a_client_that_leaves_in_the_middle_of_a_request_is_forgotten() -> None:
    async with running_relay() as relay:
        stream = await dial(relay)
        stream.writer.write(b"CONNECT localhost:1 HT")
        await eventually(lambda: len(relay._handshakes) == 1)
        await stream.close()
        await eventually(lambda: not relay._handshakes)


async def test_the_control_resource_answers_only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "is_loopback", lambda _: False)
    async with running_relay() as relay:
        assert (await ask(relay, b"GET /link HTTP/1.1\r\nHost: x\r\n\r\n")).status == 403


async def test_a_port_in_use_says_what_to_change() -> None:
    async with running_relay() as relay:
        with pytest.raises(ConfigError, match=f"port {relay.port} is in use; choose another"):
            await serve_relay("127.0.0.1", relay.port, FAST)


async def test_an_address_that_is_not_ours_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="choose another address or port"):
        await serve_relay("192.0.2.1", 0, FAST)

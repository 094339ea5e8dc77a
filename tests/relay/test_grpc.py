"""The control plane's way through the link: grpc.aio reaches a loopback target by channel arguments alone."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from prfaas.relay.shaping import LinkProfile
from tests.relay.harness import PATIENCE_S, running_relay

METHOD = "/test.Echo/Reverse"


async def reverse(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    del context
    return request[::-1]


@asynccontextmanager
async def running_server() -> AsyncIterator[int]:
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Reverse": grpc.unary_unary_rpc_method_handler(reverse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def method(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(METHOD)


def proxied(port: int) -> Sequence[tuple[str, str | int]]:
    return [("grpc.http_proxy", f"http://127.0.0.1:{port}"), ("grpc.enable_http_proxy", 1)]


@pytest.fixture(autouse=True)
def no_exceptions_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_proxy` outranks the channel argument, and often names loopback."""
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_channel_goes_through_the_relay(host: str) -> None:
    async with running_relay(LinkProfile(gbit_s=1, rtt_ms=4)) as relay, running_server() as port:
        payload = bytes(range(256)) * 1000
        async with grpc.aio.insecure_channel(f"{host}:{port}", options=proxied(relay.port)) as channel:
            call = method(channel)
            assert await call(payload, timeout=PATIENCE_S) == payload[::-1]
            stats = relay.stats()
            assert stats.connections == 1
            assert min(stats.bytes_forward, stats.bytes_backward) > len(payload)


async def test_a_channel_comes_back_after_the_link_was_down() -> None:
    async with running_relay() as relay, running_server() as port:
        options = proxied(relay.port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            call = method(channel)
            assert await call(b"ab", timeout=PATIENCE_S) == b"ba"
            relay.set_up(False)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(b"ab", timeout=PATIENCE_S)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            relay.set_up(True)
            assert await call(b"ab", timeout=PATIENCE_S, wait_for_ready=True) == b"ba"

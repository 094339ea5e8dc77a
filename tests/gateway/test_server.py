"""Ports that cannot be had, real addresses, and background work of the server."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from prfaas.config.sections import split_address
from prfaas.control.dial import Dialer
from prfaas.control.listen import listener
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from prfaas.core.errors import ConfigError
from prfaas.gateway.kv_follower import KvFollower
from prfaas.gateway.server import RouterServer
from tests.gateway.running_router import RunningRouter, eventually, running_router


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def start(model: Path, **router: str) -> None:
    async with running_router(model, **router):
        pass


@pytest.mark.parametrize("key", ["http", "control"])
async def test_a_taken_port(model: Path, taken: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await start(model, **{key: taken})
    expected = f"router.{key}: {taken} is already in use; choose another port with --set router.{key}=HOST:PORT"
    assert str(refused.value) == expected


@pytest.mark.parametrize("key", ["http", "control"])
async def test_an_address_of_another_machine(model: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"router\.{key}: cannot listen on 192\.0\.2\.1:0: .*--set router\.{key}="):
        await start(model, **{key: "192.0.2.1:0"})


async def test_a_failed_start_leaves_no_port_behind(model: Path, taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        http = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConfigError):
        await start(model, http=http, control=taken)
    await start(model, http=http)


async def test_a_second_router_on_the_same_ports(router: RunningRouter, model: Path) -> None:
    with pytest.raises(ConfigError, match="already in use"):
        await start(model, http=router.server.http_address)
    with pytest.raises(ConfigError, match="already in use"):
        await start(model, control=router.server.control_address)


async def test_silent_instances_are_noticed_without_any_request(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_router(model, heartbeat_interval_s=0.01) as router:
        await router.add()
        router.clock.now_s += 100
        await eventually(lambda: any("silent" in r.message for r in caplog.records))


async def test_a_server_that_breaks_says_so(router: RunningRouter) -> None:
    waiting = asyncio.create_task(router.server.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    router.server._uvicorn.should_exit = True
    await waiting


SIBLINGS = ["127.0.0.1:1", "127.0.0.1:2"]


async def test_a_worker_answers_alone_too_and_names_all_workers(model: Path) -> None:
    parts: dict[str, Any] = {"http": free(), "siblings": SIBLINGS, "replicas": ["h:3"]}
    async with running_router(model, heartbeat_interval_s=0.01, **parts) as router:
        await router.add()
        async with httpx2.AsyncClient(base_url=f"http://{router.server.worker_address}", verify=False) as alone:
            assert (await alone.get("/metrics")).status_code == 200
            one, other = [(await client.get("/fleet")).json() for client in (alone, router.http)]
            assert one["instances"] == other["instances"]
        refused = await router.http.get("/metrics")
        assert (refused.status_code, "router.worker_http" in refused.text) == (404, True)
        fake = router.fakes[0]
        reply = await FleetStub(router.control).Register(pb.RegisterRequest(instance=fake.info(), load=fake.load))
        assert list(reply.routers) == [*SIBLINGS, "h:3"]


async def test_a_start_that_is_given_up_leaves_no_port_behind(router: RunningRouter) -> None:
    changes = {"http": free(), "control": free(), "siblings": tuple(SIBLINGS), "heartbeat_interval_s": 60.0}
    config = router.config.router.model_copy(update=changes)
    follower = KvFollower(router.directory, Dialer(router.config, "home"), router.metrics)
    parts = router.app, router.registry, router.dispatcher, follower, router.gate
    server = RouterServer(config, *parts, credentials=None, roles=router.roles, watch=router.watch)
    starting = asyncio.create_task(server.start())
    await eventually(lambda: _listens(config.control))
    assert not _listens(config.http), "no client comes before an instance has been waited for"
    starting.cancel()
    await server.drain_and_stop(0)
    assert starting.cancelled()
    for address in (config.http, config.control):
        listener(address, "free again").close()


def free() -> str:
    """An address that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def _listens(address: str) -> bool:
    host, port = split_address(address)
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


async def test_the_fleet_file_says_what_a_connection_may_hold(model: Path) -> None:
    async with running_router(model, max_connections=1, head_timeout_s=0.1) as router:
        host, port = router.server.http_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HT")
        other, other_writer = await asyncio.open_connection(host, int(port))
        assert (await other.readline()).startswith(b"HTTP/1.1 503")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        assert router.metric("prfaas_router_connections_cut_total", reason="head_slow") == 1
        for each in (writer, other_writer):
            each.close()

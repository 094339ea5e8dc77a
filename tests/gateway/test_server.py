"""Ports that cannot be had, real addresses, and background work of the server."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prfaas.core.errors import ConfigError
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

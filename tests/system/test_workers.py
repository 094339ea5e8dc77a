"""A router of two processes: both serve, instances know both, one that dies comes back, and all drain together."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from prfaas.cli.fleet import Child
from tests.eventually import PAUSE_S, TRIES
from tests.system.fleets import free_ports, processes, write_fleet_file

pytestmark = pytest.mark.system

ASK = {"model": "prfaas-demo", "prompt": "a b c", "max_tokens": 2, "temperature": 0}
MOST_CONNECTIONS = 64
"""The kernel deals connections out by chance; that one of two workers gets none of so many has never happened."""


def alone(file: Path) -> None:
    """Leaves one instance of the demo's, since more would only take their time."""
    raw = yaml.safe_load(file.read_text())
    west = next(cluster for cluster in raw["clusters"] if cluster["kind"] == "pd")
    west["instances"] = [instance for instance in west["instances"] if instance["role"] == "decode"]
    raw |= {"clusters": [west], "links": []}
    file.write_text(yaml.safe_dump(raw))


@asynccontextmanager
async def client(address: str) -> AsyncIterator[httpx2.AsyncClient]:
    """With connections of its own; certificates, which nobody needs here, take long to load."""
    async with httpx2.AsyncClient(base_url=f"http://{address}", verify=False, trust_env=False, timeout=60) as http:
        yield http


async def get(address: str, path: str) -> httpx2.Response:
    async with client(address) as http:
        return await http.get(path)


async def answered(worker: str) -> float:
    """How many completions a worker has answered."""
    families = text_string_to_metric_families((await get(worker, "/metrics")).text)
    samples = [s for f in families for s in f.samples if s.name == "prfaas_router_requests_total"]
    return sum(s.value for s in samples if s.labels["endpoint"] == "/v1/completions")


async def knows_one(worker: str) -> bool:
    try:
        reply: dict[str, Any] = (await get(worker, "/fleet")).json()
    except httpx2.TransportError:
        return False
    return [instance["state"] for instance in reply["instances"]] == ["up"]


async def all_know(workers: list[str]) -> None:
    for _ in range(TRIES):
        if all([await knows_one(worker) for worker in workers]):
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("a worker never heard of the instance")


async def ask_until_both_answered(router: Child, workers: list[str]) -> None:
    before = [await answered(worker) for worker in workers]
    for _ in range(MOST_CONNECTIONS):
        async with client(router.addresses["http"]) as http:
            assert (await http.post("/v1/completions", json=ASK)).status_code == 200
        now = [await answered(worker) for worker in workers]
        if all(a > b for a, b in zip(now, before, strict=True)):
            return
    pytest.fail(f"of {MOST_CONNECTIONS} connections {now} came to the workers")


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def prfaas(*arguments: str) -> tuple[int | None, str]:
    """Exit code and output of a command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prfaas", *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, " ".join(output.decode().split())


async def test_two_workers(model: Path, tmp_path: Path) -> None:
    (first,) = free_ports(1)
    file = write_fleet_file(
        tmp_path,
        model,
        router={"workers": 2, "worker_http": f"127.0.0.1:{first}", "heartbeat_interval_s": 0.2, "drain_s": 5},
    )
    alone(file)
    async with processes(file, tmp_path / "logs") as fleet:
        router = fleet.fleet.child("router")
        workers = router.addresses["workers"].split()
        assert workers == [f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"]
        await all_know(workers)
        await ask_until_both_answered(router, workers)
        refused = await get(router.addresses["http"], "/metrics")
        assert refused.status_code == 404
        assert "router.worker_http" in refused.text

        _, shown = await prfaas("fleet", "show", "--config", str(file))
        assert "west-decode-0" in shown
        code, said = await prfaas("fleet", "set-role", "west-decode-0", "prefill", "--config", str(file))
        assert code == 1
        assert "west-decode-0 is the last instance that decodes" in said

        killed = children_of(router.process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        await asyncio.sleep(0.1)
        await all_know(workers)
        assert killed not in children_of(router.process.pid)
        await ask_until_both_answered(router, workers)

        left = children_of(router.process.pid)
        await router.stop(20)
        assert router.process.returncode == 0
        assert not alive(left)
    log = (tmp_path / "logs" / "router.log").read_text()
    assert "router/0 ended with code -9" in log
    assert "router/0 serves again" in log


async def test_a_worker_that_cannot_start_ends_all(model: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    file = write_fleet_file(tmp_path, model, router={"workers": 2, "control": f"127.0.0.1:{port}"})
    with socket.create_server(("127.0.0.1", port + 1)):
        code, said = await prfaas("serve", "--role", "router", "--config", str(file))
    assert code == 2
    assert f"router/1: router.control: 127.0.0.1:{port + 1} is already in use" in said

"""Fleets of real processes for tests: fleet files on free ports, HTTP and metrics of what runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from prfaas.cli.fleet import Fleet, process_specs
from prfaas.config.load import load
from prfaas.models.demo_text import demo_text
from tests.eventually import PAUSE_S, TRIES

DEMO_FILE = Path(__file__).parents[2] / "configs" / "demo.yaml"
LONG_WORDS = 1100
"""Above the demo's threshold of 1,024 tokens."""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for sock in sockets:
        sock.close()
    return ports


def overrides(model: Path) -> list[str]:
    """What makes the demo's file usable beside other fleets."""
    http, control, relay = free_ports(3)
    return [
        f"model.path={model}",
        f"router.http=127.0.0.1:{http}",
        f"router.control=127.0.0.1:{control}",
        f"links.0.relay.listen=127.0.0.1:{relay}",
        "policy.name=static_threshold",
    ]


def write_fleet_file(directory: Path, model: Path, **changes: Any) -> Path:
    """The demo's fleet file with free ports, a fixed threshold, and changed sections."""
    raw = yaml.safe_load(DEMO_FILE.read_text())
    raw["policy"] = {"name": "static_threshold"}
    http, control, relay = free_ports(3)
    raw["model"]["path"] = str(model)
    raw["router"] |= {"http": f"127.0.0.1:{http}", "control": f"127.0.0.1:{control}"}
    raw["links"][0]["relay"]["listen"] = f"127.0.0.1:{relay}"
    for section, keys in changes.items():
        raw[section] = raw.get(section, {}) | keys
    path = directory / "fleet.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def prompt_of(words: int, skip: int = 0) -> str:
    """`words` words of real text."""
    text = demo_text().split() * 4
    return " ".join(text[skip : skip + words])


@dataclass
class RunningFleet:
    """A fleet of processes and a client to it."""

    fleet: Fleet
    client: AsyncOpenAI
    logs: Path

    @property
    def http(self) -> str:
        return f"http://{self.fleet.child('router').addresses['http']}"

    async def ask(self, prompt: str, max_tokens: int = 8, prefill: str | None = None) -> dict[str, Any]:
        """The account of one greedy completion."""
        headers = {"x-prfaas-trace": "1"} | ({"x-prfaas-prefill": prefill} if prefill else {})
        answer = await self.client.completions.create(
            model="prfaas-demo",
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=0,
            extra_headers=headers,
            extra_body={"ignore_eos": True},
        )
        return dict((answer.model_extra or {})["prfaas"])

    async def metric(self, process: str, name: str) -> float:
        """The sum of a metric's samples on one instance."""
        # Certificates, which nobody needs here, take long to load.
        async with httpx2.AsyncClient(verify=False) as http:
            page = (await http.get(f"http://{self.fleet.child(process).addresses['metrics']}/metrics")).text
        families = text_string_to_metric_families(page)
        return sum(s.value for family in families for s in family.samples if s.name == name)

    async def until(self, process: str, name: str, value: float) -> None:
        """Returns once a metric has a value."""
        for _ in range(TRIES):
            if await self.metric(process, name) == value:
                return
            await asyncio.sleep(PAUSE_S)
        raise AssertionError(f"{process}: {name} never came to {value}")

    async def settled(self) -> None:
        """No request holds a page of any instance, or waits for one."""
        for child in self.fleet.children:
            if child.spec.kind in ("prefill", "decode") and child.process.returncode is None:
                for name in ("prfaas_pages_used", "prfaas_requests_running", "prfaas_requests_waiting"):
                    await self.until(child.spec.name, name, 0)

    async def throttle(self, gbit_s: float) -> None:
        """Changes the relay's rate while it runs."""
        address = self.fleet.child("link east--west").addresses["listen"]
        async with httpx2.AsyncClient() as http:
            answer = await http.put(f"http://{address}/link", json={"gbit_s": gbit_s})
        assert answer.json()["profile"]["gbit_s"] == gbit_s


@asynccontextmanager
async def processes(file: Path, logs: Path) -> AsyncIterator[RunningFleet]:
    """Starts the processes of a fleet file and stops them."""
    config = load(file)
    async with Fleet(process_specs(config, file, (), "info"), config.router.drain_s, logs) as fleet:
        address = fleet.child("router").addresses["http"]
        async with AsyncOpenAI(base_url=f"http://{address}/v1", api_key="x", max_retries=0, timeout=60) as client:
            yield RunningFleet(fleet, client, logs)

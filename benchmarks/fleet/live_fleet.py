"""A deployment as processes of this machine, from start to end. Knows no workload."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet.calls import get, get_json, put_json
from benchmarks.fleet.client import Prompts, ask
from benchmarks.fleet.fleet_file import fleet_file
from benchmarks.fleet.machine import samples
from benchmarks.fleet.predicted import arrivals, planned_rate
from benchmarks.fleet.scales import Scales
from benchmarks.fleet.studies import Study
from prfaas.cli.fleet import Fleet, process_specs
from prfaas.config.sections import FleetConfig, split_address
from prfaas.core.errors import EngineError

WARM_UP_REQUESTS, WARM_UP_SEED = 36, 1_000
THRESHOLD = "prfaas_router_threshold_tokens"
REGISTRATION_LOOKS = 300
BETWEEN_LOOKS_S = 0.2


@dataclass(frozen=True, slots=True)
class LiveFleet:
    """Running."""

    config: FleetConfig
    fleet: Fleet
    scales: Scales

    @property
    def http(self) -> tuple[str, int]:
        """Host and port of the router."""
        return split_address(self.fleet.child("router").addresses["http"])

    @property
    def metrics_addresses(self) -> list[str]:
        """Of all instances."""
        return [c.addresses["metrics"] for c in self.fleet.children if "metrics" in c.addresses and _is_instance(c)]

    async def set_link(self, gbit_s: float) -> None:
        """Of the case study's; every link's relay shapes so from now on."""
        for link in self.config.links:
            assert link.relay is not None
            await asyncio.to_thread(put_json, link.relay.listen, "/link", {"gbit_s": gbit_s * self.scales.link})

    async def threshold_tokens(self) -> int:
        """In force now."""
        page = await asyncio.to_thread(get, self.fleet.child("router").addresses["http"], "/metrics")
        return int(next(s.value for s in samples(page) if s.name == THRESHOLD))

    async def status(self) -> dict[str, Any]:
        """What the router says of the fleet."""
        page: dict[str, Any] = await asyncio.to_thread(get_json, self.fleet.child("router").addresses["http"], "/fleet")
        return page


@asynccontextmanager
async def running(study: Study, scales: Scales, model: Path, prompts: Prompts) -> AsyncIterator[LiveFleet]:
    """Every instance has registered, and prompts have crossed every way, so that nothing is done for the first time."""
    with tempfile.TemporaryDirectory(prefix="prfaas-fleet-") as scratch:
        path = Path(scratch) / "fleet.yaml"
        config = fleet_file(study, scales, model, path)
        specs = process_specs(config, path, (), "warning")
        async with Fleet(specs, drain_s=1.0, log_dir=Path(scratch) / "logs") as fleet:
            live = LiveFleet(config, fleet, scales)
            await _until_registered(live)
            await _warm_up(study, live, prompts)
            yield live


async def _until_registered(live: LiveFleet) -> None:
    expected = sum(len(cluster.instances) for cluster in live.config.clusters)
    for _ in range(REGISTRATION_LOOKS):
        if sum(i["state"] == "up" for i in (await live.status())["instances"]) == expected:
            return
        await asyncio.sleep(BETWEEN_LOOKS_S)
    raise EngineError(f"not all {expected} instances registered within {REGISTRATION_LOOKS * BETWEEN_LOOKS_S:g} s")


async def _warm_up(study: Study, live: LiveFleet, prompts: Prompts) -> None:
    """With lengths of the workload, from which the router learns."""
    host, port = live.http
    came = arrivals(study, planned_rate(study), WARM_UP_REQUESTS, WARM_UP_SEED)
    bodies = [prompts.body(arrival.prompt_tokens, 2) for arrival in came]
    await asyncio.gather(*(ask(host, port, body, time.monotonic) for body in bodies))


def _is_instance(child: Any) -> bool:
    return child.spec.kind in ("prefill", "decode")

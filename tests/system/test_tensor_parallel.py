"""A decode instance on two ranks behind a prefill instance on one: the same tokens, and one death ends them all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from prfaas.cli.fleet import Child
from prfaas.cli.start_engine import launch_process, start_engine
from prfaas.config.sections import EngineSection, ModelSection
from prfaas.core.model_files import read_config
from prfaas.core.shape import model_shape
from prfaas.telemetry.metrics import InstanceMetrics
from tests.eventually import eventually_async
from tests.system.engines import alive, engine_of
from tests.system.fleets import LONG_WORDS, RunningFleet, processes, prompt_of, write_fleet_file

pytestmark = pytest.mark.system

TWO_RANKS = {"tensor_parallel": 2, "num_pages": 256, "max_running_requests": 8}


@pytest.fixture
async def fleet(model: Path, tmp_path: Path) -> AsyncIterator[RunningFleet]:
    file = write_fleet_file(tmp_path, model)
    raw = yaml.safe_load(file.read_text())
    for cluster in raw["clusters"]:
        for instance in cluster["instances"]:
            if instance["role"] == "decode":
                instance["engine"] = TWO_RANKS
    file.write_text(yaml.safe_dump(raw))
    async with processes(file, tmp_path) as running:
        yield running


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_ranks_may_differ_between_prefill_and_decode(fleet: RunningFleet) -> None:
    decode = fleet.fleet.child("west-decode-0")
    engine = engine_of(decode.process.pid)
    (rank,) = children(engine)
    prompts = [prompt_of(40), prompt_of(300, skip=7), prompt_of(LONG_WORDS)]
    for prompt in prompts:
        local = await fleet.ask(prompt, prefill="local")
        remote = await fleet.ask(prompt, prefill="remote")
        assert remote["kv"]["bytes_wire"] > 0
        assert remote["token_ids"] == local["token_ids"]
    await fleet.settled()
    await dies_with(rank, decode)
    assert not alive(engine)


async def test_a_stop_while_ranks_load_leaves_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    settings = EngineSection(tensor_parallel=2)
    shape, metrics = model_shape(read_config(model), "float32"), InstanceMetrics(CollectorRegistry())
    section = ModelSection(path=model, name="tiny")
    starting = asyncio.create_task(start_engine("test", section, settings, shape, metrics, launch_process))
    ranks: list[int] = []
    while not ranks:
        await asyncio.sleep(0.05)
        ranks = [rank for pid in children(os.getpid()) for rank in children(pid)]
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    await eventually_async(lambda: not any(map(alive, ranks)))
    assert list(scratch.iterdir()) == []


async def dies_with(rank: int, decode: Child) -> None:
    """Without one of its ranks an engine is of no use, and its instance says so by its exit."""
    os.kill(rank, signal.SIGKILL)
    code: Any = await asyncio.wait_for(decode.process.wait(), timeout=30)
    assert code != 0
    await eventually_async(lambda: not alive(rank))

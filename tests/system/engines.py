"""Engine processes as tests see them: whose child, alive or not, and one of them without the rest of an instance."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from prfaas.cli.start_engine import RunningEngine, launch_process, start_engine
from prfaas.config.sections import EngineSection, ModelSection
from prfaas.core.model_files import read_config
from prfaas.core.shape import model_shape
from prfaas.telemetry.metrics import InstanceMetrics


def engine_of(instance_pid: int) -> int:
    """The engine's process id, as the system knows it."""
    children = Path(f"/proc/{instance_pid}/task/{instance_pid}/children").read_text().split()
    # The test's own process may have others, which multiprocessing keeps for itself.
    (engine_pid,) = (pid for pid in children if b"engine_process" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return int(engine_pid)


def alive(pid: int) -> bool:
    """Not gone, and not merely waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynccontextmanager
async def engine(model: Path, **settings: Any) -> AsyncIterator[RunningEngine]:
    """An engine process with a front in the test's process."""
    section = ModelSection(path=model, name="tiny")
    shape = model_shape(read_config(model), "float32")
    metrics = InstanceMetrics(CollectorRegistry())
    running = await start_engine("test", section, EngineSection(**settings), shape, metrics, launch_process)
    try:
        yield running
    finally:
        await running.front.stop()


def shared_memory() -> set[str]:
    """Names in /dev/shm; what has no name leaves none."""
    return {path.name for path in Path("/dev/shm").iterdir()}  # noqa: S108 - only listed

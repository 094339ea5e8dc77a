"""Starts an instance's engine and waits for its model. Nothing here, or below it, imports torch."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prfaas.cache.layout import lay_out
from prfaas.config.sections import EngineSection, ModelSection
from prfaas.core.shape import ModelShape
from prfaas.engine.arena import Arena
from prfaas.engine.link import listen
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Ready, Stats
from prfaas.engine.settings import EngineSettings
from prfaas.instance.engine_process import EngineProcess
from prfaas.instance.front import CacheListener, EngineHost, Front, nobody_listens
from prfaas.telemetry.metrics import InstanceMetrics

# -P: nothing in the user's working directory may shadow a module of ours.
COMMAND = (sys.executable, "-P", "-m", "prfaas.cli.engine_process")

Launch = Callable[[EngineSettings], Awaitable[EngineHost]]
"""Starts an engine that will say over its link when it is ready."""


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An engine that takes requests, and the cache memory that it shares with us."""

    front: Front
    memory: CacheMemory
    ready: Ready


async def launch_process(settings: EngineSettings) -> EngineHost:
    """The engine as a process of its own."""
    return await EngineProcess.start(COMMAND, settings)


async def start_engine(
    instance: str,
    model: ModelSection,
    settings: EngineSection,
    shape: ModelShape,
    metrics: InstanceMetrics,
    launch: Launch,
    on_cache_changed: CacheListener = nobody_listens,
) -> RunningEngine:
    """Raises ModelError for a checkpoint that cannot be served, EngineError when the engine ends before it is ready."""
    layout = lay_out(shape, settings.page_tokens)
    link, arena = listen(), Arena.create(layout.num_bytes(settings.num_pages))
    try:
        host = await launch(
            EngineSettings(
                instance=instance,
                log_level=logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
                model_path=model.path,
                dtype=model.dtype,
                engine=settings,
                arena_fd=arena.fd,
                link_fd=link.fd,
            )
        )
    except BaseException:
        link.close()
        raise
    finally:
        arena.close()
    front = Front(link, host, metrics, Stats(pages_total=settings.num_pages), on_cache_changed)
    try:
        ready = await front.ready()
    except BaseException:
        await asyncio.shield(front.stop())
        raise
    return RunningEngine(front, CacheMemory(shape, layout, arena.memory), ready)

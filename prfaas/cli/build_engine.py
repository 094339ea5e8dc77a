"""Puts the engine together in its own process: ranks, scheduler, loop."""

import logging
import time
from collections.abc import Callable

import xxhash

from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cli.built_engine import BuiltEngine, build_cache, build_scheduler
from prfaas.cli.device import device_name
from prfaas.cli.load_rank import LoadedRank, load_rank
from prfaas.cli.start_ranks import Followers
from prfaas.engine.disk_folder import make_usable
from prfaas.engine.disk_moves import DiskMoves
from prfaas.engine.disk_tier import DiskTier
from prfaas.engine.drawer import build_drawer
from prfaas.engine.engine import Engine
from prfaas.engine.link import EngineLink
from prfaas.engine.messages import Ready
from prfaas.engine.model_runner import Forward, ModelRunner
from prfaas.engine.parallel import Leader
from prfaas.engine.prefixes import Prefixes
from prfaas.engine.settings import EngineSettings
from prfaas.engine.warm_up import warm_up
from prfaas.models.ranks import ALONE
from prfaas.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)

_DISK_SHARE = 8
"""No more pages are given to the disk while one in so many waits for it already."""


def build_engine(settings: EngineSettings, link: EngineLink) -> BuiltEngine:
    """Loads the model, on all ranks. Raises ModelError, ConfigError, or EngineError when a rank ends too early."""
    section = settings.engine.prefix_cache
    if section.enabled and section.disk is not None:
        make_usable(section.disk.path)
    if settings.engine.tensor_parallel == 1:
        loaded = load_rank(settings, ALONE)
        return _engine(settings, link, loaded, loaded.model.decoder.forward, lambda: None)
    followers = Followers(settings)
    try:
        loaded = load_rank(settings, followers.ranks)
        followers.meet()
        leader = Leader(loaded.model.decoder, followers.ranks)
        return _engine(settings, link, loaded, leader.forward, lambda: followers.stop(leader.stop))
    except BaseException:
        followers.close()
        raise


def _engine(
    settings: EngineSettings, link: EngineLink, loaded: LoadedRank, forward: Forward, stop: Callable[[], None]
) -> BuiltEngine:
    section, model = settings.engine, loaded.model
    cache = build_cache(section, loaded.layout.state_pages)
    scheduler = build_scheduler(section, cache, model.fingerprint, model.eos_token_ids)
    tier = _disk_moves(settings, link, loaded, cache, scheduler)
    prefixes = Prefixes(cache, tier, time.monotonic, section.prefix_cache.announced_s)
    runner = ModelRunner(forward, loaded.cache, build_drawer(settings.model_path, model.eos_token_ids))
    _compile_for_device(settings, loaded, forward)
    engine = Engine(scheduler, runner, model.shape, cache, prefixes, link, time.monotonic, loaded.copies)
    return BuiltEngine(engine, _ready(loaded), stop)


def _compile_for_device(settings: EngineSettings, loaded: LoadedRank, forward: Forward) -> None:
    """On a GPU: the first request of a shape shall not wait for its kernels."""
    if loaded.cache.device.type != "cuda":
        return
    section, started = settings.engine, time.monotonic()
    steps = warm_up(
        forward,
        loaded.cache,
        num_pages=section.num_pages,
        state_pages=loaded.layout.state_pages,
        step_tokens=section.step_tokens,
        max_decodes=section.max_running_requests,
    )
    log.info("%d steps to compile the kernels took %.1f s", steps, time.monotonic() - started)


def _ready(loaded: LoadedRank) -> Ready:
    device = device_name(loaded.cache.device)
    return Ready(loaded.model.fingerprint, loaded.model.vocab_size, loaded.compiled_kernels, device)


def _disk_moves(
    settings: EngineSettings, link: EngineLink, loaded: LoadedRank, cache: PrefixCache, scheduler: Scheduler
) -> DiskMoves | None:
    """Raises ConfigError when the folder cannot be used."""
    section = settings.engine.prefix_cache
    if section.disk is None or not section.enabled:
        return None
    tier = DiskTier(
        section.disk.path,
        limit_bytes=int(section.disk.limit_gib * 2**30),
        fingerprint=loaded.model.fingerprint,
        # Whatever moves a byte within a page, or changes what it means, gives the pages another name on disk.
        format_key=xxhash.xxh3_128_hexdigest(repr((settings.dtype, loaded.layout)).encode()),
        page=loaded.memory.page,
        wake=link.wake,
        # What waits for a slow disk is taken from requests.
        queue_pages=-(-settings.engine.num_pages // _DISK_SHARE),
    )
    return DiskMoves(tier, cache, loaded.layout.page_bytes, scheduler.waiting_for, time.monotonic, loaded.copies)

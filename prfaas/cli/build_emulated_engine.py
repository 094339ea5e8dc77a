"""Puts an emulated engine together in its own process. Nothing here, or below it, imports torch."""

import time

from prfaas.cache.layout import lay_out
from prfaas.cli.built_engine import BuiltEngine, build_cache, build_scheduler
from prfaas.cli.emulation import emulated_fingerprint, emulated_profile, engine_words
from prfaas.core.families.registry import decoder_spec
from prfaas.core.model_files import read_config
from prfaas.engine.arena import Arena
from prfaas.engine.emulated.pages import EmulatedPages
from prfaas.engine.emulated.runner import EmulatedRunner
from prfaas.engine.emulated.shape import emulated_shape
from prfaas.engine.emulated.timetable import Timetable
from prfaas.engine.engine import Engine
from prfaas.engine.link import EngineLink
from prfaas.engine.messages import Ready
from prfaas.engine.prefixes import Prefixes
from prfaas.engine.settings import EngineSettings


def build_emulated_engine(settings: EngineSettings, link: EngineLink) -> BuiltEngine:
    """Raises ModelError for a directory without a config, ConfigError for a profile that cannot be used."""
    section, emulated = settings.engine, settings.engine.emulated
    assert emulated is not None
    profile, spec = emulated_profile(emulated), decoder_spec(read_config(settings.model_path))
    shape = emulated_shape(profile, spec.max_context_tokens)
    layout = lay_out(shape, section.page_tokens)
    arena = Arena(settings.arena_fd)
    arena.close()
    assert arena.memory.nbytes == layout.num_bytes(section.num_pages), "front and engine disagree about the cache"
    fingerprint = emulated_fingerprint(emulated, shape, spec.vocab_size)
    cache = build_cache(section, layout.state_pages)
    scheduler = build_scheduler(section, cache, fingerprint, spec.eos_token_ids)
    prefixes = Prefixes(cache, None, time.monotonic, section.prefix_cache.announced_s)
    runner = EmulatedRunner(
        profile,
        shape,
        EmulatedPages(shape, layout, arena.memory),
        Timetable(time.monotonic, time.sleep),
        vocab_size=spec.vocab_size,
        eos_token_ids=spec.eos_token_ids,
    )
    engine = Engine(scheduler, runner, shape, cache, prefixes, link, time.monotonic)
    ready = Ready(fingerprint, spec.vocab_size, compiled_kernels=False, device=engine_words(emulated))
    return BuiltEngine(engine, ready, lambda: None)

"""What a fleet serves where its engines are emulated: profile, shape, pool and name. Imports no torch.

Router and instances work all of it out from the same fleet file.
"""

import dataclasses
import json

import xxhash

from prfaas.cache.layout import lay_out
from prfaas.config.sections import EmulatedSection, EngineSection, FleetConfig
from prfaas.core.errors import ConfigError
from prfaas.core.model_files import read_config
from prfaas.core.shape import DTYPE_BYTES, DType, ModelShape, sent_shapes
from prfaas.engine.emulated.shape import emulated_shape
from prfaas.planner.profiles import read_profile
from prfaas.policy.profile import Profile
from prfaas.policy.scaled import scaled

MAX_CONTEXT_TOKENS = 1 << 20
"""Of an emulated model, where the fleet file does not say: the profile does not, and the checkpoint's is another's."""


def emulated_profile(section: EmulatedSection) -> Profile:
    """In the engine's own seconds and bytes. Raises ConfigError with every fault of the file."""
    return scaled(read_profile(section.profile), time_scale=section.time_scale, kv_scale=section.kv_scale)


def served_shapes(config: FleetConfig, engine: EngineSection) -> dict[DType, ModelShape]:
    """What is cached of a request, in each dtype that a sender may serve the model in. Raises ModelError, ConfigError.

    An emulated model has one form, whatever `model.dtype` says.
    """
    if engine.emulated is None:
        return sent_shapes(read_config(config.model.path))
    limit = config.model.max_context_tokens or MAX_CONTEXT_TOKENS
    return dict.fromkeys(DTYPE_BYTES, emulated_shape(emulated_profile(engine.emulated), limit))


def sized_engine(engine: EngineSection, shape: ModelShape) -> EngineSection:
    """With as many pages as the profile's memory has, where the engine is emulated. Raises ConfigError if that is none.

    `shape` is the emulated one.
    """
    if engine.emulated is None:
        return engine
    if engine.tensor_parallel > 1:
        raise ConfigError("engine.tensor_parallel is for models: a profile is of a whole instance; remove it")
    if engine.prefix_cache.disk is not None:
        raise ConfigError("engine.prefix_cache.disk: an emulated engine keeps nothing on disk; remove it")
    profile, layout = emulated_profile(engine.emulated), lay_out(shape, engine.page_tokens)
    num_pages = int(profile.cache_bytes // layout.page_bytes)
    if num_pages <= layout.state_pages:
        needed = (layout.state_pages + 1) / engine.emulated.kv_scale * layout.page_bytes / 2**30
        raise ConfigError(
            f"{engine.emulated.profile}: hardware.cache_gib holds no request, whose states and first page need "
            f"{needed:.3g} GiB; raise it"
        )
    return engine.model_copy(update={"num_pages": num_pages})


def any_emulated(config: FleetConfig) -> EngineSection:
    """The fleet's engine section; an emulated one if any instance has one."""
    sections = [config.engine, *(i.engine for c in config.clusters for i in c.instances if i.engine)]
    return next((section for section in sections if section.emulated), config.engine)


def emulated_fingerprint(section: EmulatedSection, shape: ModelShape, vocab_size: int) -> str:
    """Equal on instances whose KV is interchangeable: of one model and one scale, on whatever hardware."""
    model, _, _ = read_profile(section.profile).name.rpartition(" on ")
    said = {"model": model, "kv_scale": section.kv_scale, "time_scale": section.time_scale, "vocab_size": vocab_size}
    layers = [dataclasses.asdict(layer) for layer in shape.layers]
    return xxhash.xxh3_128_hexdigest(json.dumps([said, layers], sort_keys=True).encode())


def engine_words(section: EmulatedSection) -> str:
    """What computes, for people."""
    return f"emulated {read_profile(section.profile).name} x{section.time_scale:g}"

"""What every rank of an engine does first: set its process up, load its slice of the model, map the shared cache."""

import logging
from dataclasses import dataclass

import torch

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.engine.allocator import keep_freed_memory
from prfaas.engine.arena import Arena
from prfaas.engine.memory import CacheMemory
from prfaas.engine.settings import EngineSettings
from prfaas.models.batch import CacheTensors
from prfaas.models.cache_tensors import map_cache
from prfaas.models.loader import LoadedModel, load_model
from prfaas.models.ranks import Ranks
from prfaas.models.shard import local_cache
from prfaas_kernels import native

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRank:
    """One rank's slice of the model, and its view of the cache."""

    model: LoadedModel
    cache: CacheTensors
    layout: PageLayout
    memory: CacheMemory
    compiled_kernels: bool


def load_rank(settings: EngineSettings, ranks: Ranks) -> LoadedRank:
    """Raises ModelError."""
    section = settings.engine
    torch.set_num_threads(section.threads)
    keep_freed_memory()
    compiled = _enable_kernels()
    model = load_model(settings.model_path, settings.dtype, ranks)
    layout = lay_out(model.shape, section.page_tokens)
    arena = Arena(settings.arena_fd)
    arena.close()
    assert arena.memory.nbytes == layout.num_bytes(section.num_pages), "front and engine disagree about the cache"
    cache = local_cache(model.spec, map_cache(model.shape, layout, arena.memory), ranks)
    return LoadedRank(model, cache, layout, CacheMemory(model.shape, layout, arena.memory), compiled)


def _enable_kernels() -> bool:
    try:
        native.enable()
    except native.BuildError as error:
        log.warning("no compiled kernels, all is computed by torch, which is slower: %s", error)
        return False
    return True

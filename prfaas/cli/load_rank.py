"""What every rank of an engine does first: set its process up, load its slice of the model, map the shared cache."""

import logging
from dataclasses import dataclass

import torch

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.cli.device import allocate_pages, choose_device
from prfaas.engine.allocator import keep_freed_memory
from prfaas.engine.arena import Arena
from prfaas.engine.device_pages import DevicePages
from prfaas.engine.memory import CacheMemory
from prfaas.engine.page_copies import PageCopies, SharedPages
from prfaas.engine.settings import EngineSettings
from prfaas.models.batch import CacheTensors
from prfaas.models.cache_tensors import lay_over
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
    """Shared with the front."""
    copies: PageCopies
    """Between that and the cache, if they are not the same."""
    compiled_kernels: bool


def load_rank(settings: EngineSettings, ranks: Ranks) -> LoadedRank:
    """Raises ModelError, and ConfigError for a device that is not there."""
    section = settings.engine
    device = choose_device(section.device, ranks.size)
    torch.set_num_threads(section.threads)
    keep_freed_memory()
    compiled = _enable_kernels()
    model = load_model(settings.model_path, settings.dtype, ranks, device)
    layout = lay_out(model.shape, section.page_tokens)
    arena = Arena(settings.arena_fd)
    arena.close()
    assert arena.memory.nbytes == layout.num_bytes(section.num_pages), "front and engine disagree about the cache"
    memory = CacheMemory(model.shape, layout, arena.memory)
    shared = torch.frombuffer(arena.memory, dtype=torch.uint8)
    if device == torch.device("cpu"):
        cache = local_cache(model.spec, lay_over(model.shape, layout, shared), ranks)
        return LoadedRank(model, cache, layout, memory, SharedPages(), compiled)
    own = allocate_pages(len(shared), device)
    copies = DevicePages(model.shape, layout, own, shared)
    return LoadedRank(model, lay_over(model.shape, layout, own), layout, memory, copies, compiled)


def _enable_kernels() -> bool:
    try:
        native.enable()
    except native.BuildError as error:
        log.warning("no compiled kernels, all is computed by torch, which is slower: %s", error)
        return False
    return True

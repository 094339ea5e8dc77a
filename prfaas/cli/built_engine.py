"""What every kind of engine is put together from in its own process, and what that comes to. Imports no torch."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.config.sections import EngineSection
from prfaas.engine.engine import Engine
from prfaas.engine.messages import Ready
from prfaas.scheduler.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A loop ready to run, what to tell the front of it, and what to do when it has ended."""

    engine: Engine
    ready: Ready
    stop: Callable[[], None]


def build_cache(section: EngineSection, state_pages: int) -> PrefixCache:
    """An empty one, over all pages of the pool."""
    return PrefixCache(
        PagePool(section.num_pages),
        block_tokens=section.page_tokens,
        state_pages=state_pages,
        eviction=section.prefix_cache.eviction,
        enabled=section.prefix_cache.enabled,
        record_changes=True,
    )


def build_scheduler(
    section: EngineSection, cache: PrefixCache, fingerprint: str, eos_token_ids: Collection[int]
) -> Scheduler:
    """`fingerprint` is the model's."""
    prefixes = section.prefix_cache
    return Scheduler(
        cache,
        SnapshotPolicy(section.page_tokens, prefixes.snapshot_every_tokens, prefixes.answer_snapshot_tokens),
        fingerprint=fingerprint,
        step_tokens=section.step_tokens,
        max_running=section.max_running_requests,
        eos_token_ids=frozenset(eos_token_ids),
        decode_slowdown=section.decode_slowdown,
    )

"""How an instance's memory is divided into pages. Knows no requests."""

from dataclasses import dataclass
from math import ceil

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.config.deployment import PlannedEngineSection
from prfaas.core.errors import ConfigError
from prfaas.policy.profile import Profile


@dataclass(frozen=True, slots=True)
class Memory:
    """One instance's."""

    num_pages: int
    state_pages: int
    """Of one request's states, or of a snapshot."""

    @classmethod
    def of(cls, profile: Profile, page_tokens: int) -> "Memory":
        """Raises ConfigError where not even a prompt of one page fits."""
        page_bytes = page_tokens * profile.kv_bytes_per_token
        memory = cls(int(profile.cache_bytes // page_bytes), ceil(profile.state_bytes / page_bytes))
        if memory.num_pages <= memory.state_pages:
            raise ConfigError(
                f"profile {profile.name}: {profile.cache_bytes / 2**30:.3g} GiB of cache hold no request, whose states "
                f"and first page need {(memory.state_pages + 1) * page_bytes / 2**30:.3g} GiB; raise hardware.cache_gib"
            )
        return memory

    def cache(self, engine: PlannedEngineSection) -> PrefixCache:
        """An empty one."""
        return PrefixCache(
            PagePool(self.num_pages),
            block_tokens=engine.page_tokens,
            state_pages=self.state_pages,
            eviction=engine.prefix_cache.eviction,
            enabled=engine.prefix_cache.enabled,
        )

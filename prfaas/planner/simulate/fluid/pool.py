"""An instance's memory in pages of one listed block each. Knows no requests."""

from math import ceil

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.config.deployment import PlannedEngineSection
from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.arrival import ID_TOKENS
from prfaas.policy.profile import Profile


def empty_cache(profile: Profile, engine: PlannedEngineSection) -> PrefixCache:
    """Raises ConfigError where not even a prompt of one block fits."""
    page_bytes = ID_TOKENS * profile.kv_bytes_per_token
    num_pages, state_pages = int(profile.cache_bytes // page_bytes), ceil(profile.state_bytes / page_bytes)
    if num_pages <= state_pages:
        raise ConfigError(
            f"profile {profile.name}: {profile.cache_bytes / 2**30:.3g} GiB of cache hold no request, whose states and "
            f"first block need {(state_pages + 1) * page_bytes / 2**30:.3g} GiB; raise hardware.cache_gib"
        )
    return PrefixCache(
        PagePool(num_pages),
        block_tokens=ID_TOKENS,
        state_pages=state_pages,
        eviction=engine.prefix_cache.eviction,
        enabled=engine.prefix_cache.enabled,
    )

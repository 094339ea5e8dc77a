"""Leases of announced prefixes: they end with their request's admission, whichever of the two comes first."""

import pytest

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.prefixes import REMEMBERED, Prefixes
from prfaas.scheduler.sequence import Mode, Sequence

TOKENS = (1, 2, 3, 4)
NAMES = tuple(block_hashes(root_hash("model", ""), TOKENS, 4))


def sequence(name: str) -> Sequence:
    return Sequence(Request(RequestId(f"{name}#1"), (*TOKENS, 5), SamplingParams(max_tokens=1)), Mode.SERVE)


@pytest.fixture
def cache() -> PrefixCache:
    """One block, which nobody holds."""
    cache = PrefixCache(PagePool(4), block_tokens=4, state_pages=0)
    pages = cache.allocate(1)
    assert pages is not None
    cache.insert_blocks(None, NAMES, pages, [TOKENS])
    cache.release(pages)
    return cache


def test_a_lease_ends_when_its_request_is_admitted(cache: PrefixCache) -> None:
    prefixes = Prefixes(cache, None, lambda: 0.0, 10.0)
    prefixes.announced("r", NAMES)
    assert (cache.leases, cache.idle_pages) == (1, 0)
    prefixes.admitted(sequence("other"))
    assert cache.leases == 1
    prefixes.admitted(sequence("r"))
    assert (cache.leases, cache.idle_pages) == (0, 1)


def test_an_announcement_that_comes_after_its_request_keeps_nothing(cache: PrefixCache) -> None:
    prefixes = Prefixes(cache, None, lambda: 0.0, 10.0)
    prefixes.admitted(sequence("r"))
    prefixes.announced("r", NAMES)
    assert (cache.leases, cache.idle_pages) == (0, 1)
    prefixes.announced("later", NAMES)
    assert cache.leases == 1


def test_of_requests_long_ago_nothing_is_remembered(cache: PrefixCache) -> None:
    prefixes = Prefixes(cache, None, lambda: 0.0, 10.0)
    for i in range(REMEMBERED + 1):
        prefixes.admitted(sequence(f"r{i}"))
    assert len(prefixes._admitted) == REMEMBERED
    prefixes.announced("r0", NAMES)
    assert cache.leases == 1

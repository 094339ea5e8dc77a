"""What the index costs a request: hashing a long prompt, finding and pinning it, pages for it, with and without
evicting others. Knows no trace."""

import itertools
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from xxhash import xxh3_128_digest

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import BlockHash

BLOCK_TOKENS = 64
MEMORY_BLOCKS = 1_000_000
_VOCAB = 150_000
_OTHERS = 20
"""Prompts that fill a pool."""


def hash_ms(tokens: int, rounds: int) -> float:
    """Naming the blocks of a prompt; median."""
    prompt, root = random.Random(0).choices(range(_VOCAB), k=tokens), root_hash("fingerprint", "")
    times_ms = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        block_hashes(root, prompt, BLOCK_TOKENS)
        times_ms.append((time.perf_counter() - start_s) * 1e3)
    return statistics.median(times_ms)


def match_ms(tokens: int, state_pages: int, rounds: int, *, evicting: bool) -> float:
    """Matching and pinning a prompt that is held whole, and pages for another as long; median.

    The pages are free, or (`evicting`) all taken by prompts of the same length that nobody uses.
    """
    blocks = tokens // BLOCK_TOKENS
    need = blocks + state_pages
    cache = PrefixCache(PagePool((_OTHERS + 2) * need), block_tokens=BLOCK_TOKENS, state_pages=state_pages)
    names = _prompts(blocks)
    ours = next(names)
    _store(cache, ours)
    times_ms = []
    for _ in range(rounds):
        while evicting and cache.pool.free:
            _store(cache, next(names))
        start_s = time.perf_counter()
        match = cache.match(ours, blocks)
        held = cache.pin(match, match.usable_blocks, snapshot=True)
        pages = cache.allocate(need)
        times_ms.append((time.perf_counter() - start_s) * 1e3)
        assert pages is not None
        assert len(held) == blocks
        cache.release([*held, *match.snapshot, *pages])
    return statistics.median(times_ms)


def index_bytes_per_block(num_blocks: int = MEMORY_BLOCKS) -> float:
    """What a pool and an index full of KV blocks add to a process, shared out to the blocks."""
    command = [sys.executable, "-m", "benchmarks.prefix_replay.index_memory", str(num_blocks)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _store(cache: PrefixCache, hashes: list[BlockHash]) -> None:
    pages = cache.allocate(len(hashes) + cache.state_pages)
    assert pages is not None
    cache.insert_blocks(None, hashes, pages[: len(hashes)], [()] * len(hashes))
    if cache.state_pages:
        cache.insert_snapshot(hashes[-1], pages[len(hashes) :])
    cache.release(pages)


def _prompts(blocks: int) -> Iterator[list[BlockHash]]:
    """Names of prompts that have nothing in common."""
    for number in itertools.count():
        yield [BlockHash(xxh3_128_digest(b"%d:%d" % (number, block))) for block in range(blocks)]

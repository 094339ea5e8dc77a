"""A process that builds a large index and prints how many bytes of its resident memory each block takes."""

import gc
import resource
import sys
from pathlib import Path

from xxhash import xxh3_128_digest

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import BlockHash

_PROMPT_BLOCKS = 1000


def main(num_blocks: int) -> None:
    before = _resident_bytes()
    cache = PrefixCache(PagePool(num_blocks), block_tokens=64, state_pages=0)
    for first in range(0, num_blocks, _PROMPT_BLOCKS):
        _store(cache, range(first, min(first + _PROMPT_BLOCKS, num_blocks)))
    gc.collect()
    assert cache.blocks == num_blocks
    sys.stdout.write(f"{(_resident_bytes() - before) / num_blocks}\n")


def _store(cache: PrefixCache, numbers: range) -> None:
    hashes = [BlockHash(xxh3_128_digest(number.to_bytes(8, "little"))) for number in numbers]
    pages = cache.allocate(len(hashes))
    assert pages is not None
    cache.insert_blocks(None, hashes, pages, [()] * len(hashes))
    cache.release(pages)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))

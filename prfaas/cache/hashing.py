"""Names for blocks of tokens: equal names mean equal tokens from the prompt's start, on one model, for one tenant.

The chain of the PrfaaS paper's block-level cache (s3.2): xxh3-128 over the parent's name and the block's tokens, begun
with the model's fingerprint and the tenant's salt. It is no cryptographic hash: tenants who must not be able to guess
what others cached need salts that the others do not know.
"""

from array import array
from collections.abc import Sequence

from xxhash import xxh3_128_digest

from prfaas.core.ids import BlockHash

_TOKEN_BYTES = 4


def root_hash(fingerprint: str, salt: str) -> BlockHash:
    """The parent of every first block. `fingerprint` is the model's (`prfaas.models.fingerprint`)."""
    # A length in front, so that no fingerprint and salt can be taken for another pair.
    return BlockHash(xxh3_128_digest(f"{len(fingerprint)}:{fingerprint}{salt}".encode()))


def block_hashes(parent: BlockHash, token_ids: Sequence[int], block_tokens: int) -> list[BlockHash]:
    """Names of the whole blocks of `token_ids` that follow `parent`, in order; what is left over has no name."""
    whole = len(token_ids) // block_tokens
    tokens = memoryview(array("I", token_ids[: whole * block_tokens])).cast("B")
    step = block_tokens * _TOKEN_BYTES
    hashes, name = [], parent
    for start in range(0, whole * step, step):
        name = BlockHash(xxh3_128_digest(name + tokens[start : start + step]))
        hashes.append(name)
    return hashes

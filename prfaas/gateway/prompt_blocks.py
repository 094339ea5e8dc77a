"""A prompt's blocks by name, each list of them made once however often it is asked for."""

from collections.abc import Sequence

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.core.ids import BlockHash
from prfaas.core.request import Request


class PromptBlocks:
    """Of one request, under any model's fingerprint and any size of block."""

    def __init__(self, request: Request) -> None:
        self._token_ids = request.prompt_token_ids
        self._salt = request.cache_salt
        self._names: dict[tuple[str, int], Sequence[BlockHash]] = {}

    @property
    def num_tokens(self) -> int:
        return len(self._token_ids)

    def names(self, fingerprint: str, block_tokens: int) -> Sequence[BlockHash]:
        """Of the whole blocks, in order."""
        key = fingerprint, block_tokens
        if key not in self._names:
            self._names[key] = block_hashes(root_hash(fingerprint, self._salt), self._token_ids, block_tokens)
        return self._names[key]

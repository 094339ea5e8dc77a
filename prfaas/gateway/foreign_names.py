"""What we call the blocks of an instance whose engine names them in its own way, as vLLM's does.

Its events tell the tokens of what is stored, so that they can be named again; later ones refer to the engine's names.
Knows nothing of who holds what.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.control.kv_events import BlockName, BlockStored
from prfaas.core.ids import BlockHash

_UNKNOWN = BlockHash(b"")


@dataclass(frozen=True, slots=True)
class Named:
    """Those of an event's blocks that can be used, by our names, and how many cannot."""

    names: tuple[BlockHash, ...] = ()
    unnamed: int = 0
    """What is in front of them, or their tokens, was not told."""
    private: int = 0
    """Not made of tokens alone: adapters, images, salts; and all that follows such a block."""


class ForeignNames:
    """Of one life of one instance. What a name stands for never changes, whether the block is held or not."""

    def __init__(self, fingerprint: str, block_tokens: int) -> None:
        self._root = root_hash(fingerprint, "")
        self._block_tokens = block_tokens
        self._names: dict[BlockName, BlockHash | None] = {}
        """By the engine's; None for private ones."""

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, event: BlockStored) -> Named:
        """Names the blocks of an event, by their tokens or, without those, as far as they were named before."""
        of_tokens = self._by_tokens(event)
        told = of_tokens or [self._names.get(name, _UNKNOWN) for name in event.block_hashes]
        if of_tokens:
            self._names.update(zip(event.block_hashes, of_tokens, strict=True))
        names = tuple([name for name in told if name])
        private = told.count(None)
        return Named(names, len(told) - len(names) - private, private)

    def ours(self, names: Sequence[BlockName]) -> list[BlockName]:
        """Those that have names of ours."""
        return [name for theirs in names if (name := self._names.get(theirs))]

    def drop(self, count: int, held: Callable[[BlockHash], bool]) -> list[BlockHash]:
        """Forgets so many, first what is not held, then the oldest; returns our names of those that were held."""
        gone = list(islice((theirs for theirs, name in self._names.items() if not (name and held(name))), count))
        for theirs in gone:
            del self._names[theirs]
        oldest = list(islice(self._names, count - len(gone)))
        return [name for theirs in oldest if (name := self._names.pop(theirs))]

    def _by_tokens(self, event: BlockStored) -> list[BlockHash | None] | None:
        """None where they cannot be named so."""
        count = len(event.block_hashes)
        parent = self._root if event.parent_block_hash is None else self._names.get(event.parent_block_hash, _UNKNOWN)
        if event.block_size != self._block_tokens or len(event.token_ids) != count * self._block_tokens:
            return None
        if parent == _UNKNOWN:
            return None
        usable = 0 if parent is None else _first_private(event)
        named = block_hashes(parent, event.token_ids, self._block_tokens)[:usable] if parent and usable else []
        return [*named, *repeat(None, count - len(named))]


def _first_private(event: BlockStored) -> int:
    """Index of the first block that is not made of tokens alone; their number where all are."""
    if event.lora_id is not None or event.lora_name is not None:
        return 0
    keys = event.extra_keys or ()
    return next((i for i, key in enumerate(keys) if key), len(event.block_hashes))

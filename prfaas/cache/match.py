"""The answer to a look into the prefix cache. Knows nothing of how it was found."""

from typing import NamedTuple


class Match(NamedTuple):
    """What is held of a prompt. Good until the cache next evicts something."""

    pages: tuple[int, ...] = ()
    """KV of the leading blocks, in order."""
    usable_blocks: int = 0
    """The longest point that a request can go on from; at most len(pages) and the limit asked for."""
    snapshot: tuple[int, ...] = ()
    """The states' pages there; empty where nothing is usable, and for models without states."""
    branch_blocks: int = 0
    """len(pages) if another prompt goes on from there with other blocks; 0 if what is held just ends."""
    evictions: int = 0
    """Of the cache, until then."""

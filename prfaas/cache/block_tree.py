"""Which block lies in which page, what it follows, and which blocks have a snapshot. Counts no references.

Chained hashes make the blocks of all prompts a forest. A block is known by its page, so that a node costs a few numbers
in columns as long as the pool, one entry of a dict, and no object: an index of a million blocks is a matter of size.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from prfaas.core.errors import PoolError
from prfaas.core.ids import BlockHash

_NONE = -1
"""No page, in a column of numbers."""


@dataclass(slots=True)
class Snapshot:
    """All linear states at a block's end, and how it was used (see `Candidate`)."""

    pages: tuple[int, ...]
    last_visit: int
    clock: float
    visits: int = 1


class BlockTree:
    """Blocks in pages 0..size-1. A block is added after its parent and removed before it."""

    def __init__(self, size: int) -> None:
        # In order of insertion, which puts parents before children.
        self._pages: dict[BlockHash, int] = {}
        self._hashes: list[BlockHash | None] = [None] * size
        self._parents = array("i", [_NONE]) * size
        self._children = array("i", bytes(4 * size))
        self._depths = array("i", bytes(4 * size))
        self._owners = array("i", [_NONE]) * size
        self.snapshots: dict[int, Snapshot] = {}
        """By the page of the block at whose end they were taken."""

    def __len__(self) -> int:
        return len(self._pages)

    def __iter__(self) -> Iterator[int]:
        """All blocks, parents first."""
        return iter(self._pages.values())

    def page(self, block_hash: BlockHash) -> int | None:
        return self._pages.get(block_hash)

    def hash(self, block: int) -> BlockHash:
        name = self._hashes[block]
        assert name is not None
        return name

    def parent(self, block: int) -> int | None:
        """None for a prompt's first block."""
        page = self._parents[block]
        return None if page == _NONE else page

    def parent_hash(self, block: int) -> BlockHash | None:
        parent = self.parent(block)
        return None if parent is None else self.hash(parent)

    def owner(self, page: int) -> int | None:
        """The block whose KV or snapshot lies in a page."""
        block = self._owners[page]
        return None if block == _NONE else block

    def depth(self, block: int) -> int:
        """Blocks from the prompt's start to this one's end."""
        return self._depths[block]

    def is_leaf(self, block: int) -> bool:
        return not self._children[block]

    def only_child(self, block: int) -> bool:
        """Whether a parent has no other child than this one, which it must have."""
        return self._children[block] == 1

    def leading(self, hashes: list[BlockHash] | tuple[BlockHash, ...]) -> list[int]:
        """Pages of the blocks from the first on, as far as all are held."""
        get, found = self._pages.get, []
        for name in hashes:
            page = get(name)
            if page is None:
                break
            found.append(page)
        return found

    def add(self, parent: int | None, block_hash: BlockHash, page: int) -> None:
        self._pages[block_hash] = page
        self._hashes[page] = block_hash
        self._owners[page] = page
        self._parents[page] = _NONE if parent is None else parent
        self._depths[page] = 1 if parent is None else self._depths[parent] + 1
        if parent is not None:
            self._children[parent] += 1

    def remove(self, block: int) -> BlockHash:
        """A leaf without a snapshot."""
        assert not self._children[block]
        name = self.hash(block)
        del self._pages[name]
        self._hashes[block] = None
        self._owners[block] = _NONE
        if self._parents[block] != _NONE:
            self._children[self._parents[block]] -= 1
        return name

    def add_snapshot(self, block: int, snapshot: Snapshot) -> None:
        self.snapshots[block] = snapshot
        for page in snapshot.pages:
            self._owners[page] = block

    def remove_snapshot(self, block: int) -> Snapshot:
        snapshot = self.snapshots.pop(block)
        for page in snapshot.pages:
            self._owners[page] = _NONE
        return snapshot

    def reach(self, block: int) -> tuple[int, int]:
        """Blocks from the snapshot above (or the start) to this one, and how many of them lead only to it."""
        children, parents, snapshots = self._children, self._parents, self.snapshots
        blocks, alone, page = 1, 0 if children[block] else 1, parents[block]
        while page != _NONE and page not in snapshots:
            if alone == blocks and children[page] == 1:
                alone += 1
            blocks += 1
            page = parents[page]
        return blocks, alone

    def check(self) -> None:
        """Raises PoolError unless the columns describe one forest."""
        children = dict.fromkeys(self, 0)
        for block in self:
            parent = self.parent(block)
            if parent is not None:
                self._demand(parent in children, f"block in page {block} without its parent in {parent}")
                children[parent] += 1
            depth = 1 if parent is None else self._depths[parent] + 1
            self._demand(self._depths[block] == depth, f"depth {self._depths[block]} of page {block}, not {depth}")
            self._demand(self.page(self.hash(block)) == block == self.owner(block), f"page {block} has another's name")
        self._demand(all(self._children[b] == n for b, n in children.items()), "children are miscounted")
        for block, snapshot in self.snapshots.items():
            self._demand(block in children, f"snapshot of page {block}, where no block is")
            self._demand({self.owner(p) for p in snapshot.pages} <= {block}, f"snapshot of page {block} shares pages")

    def _demand(self, holds: bool, fault: str) -> None:
        if not holds:
            raise PoolError(fault)

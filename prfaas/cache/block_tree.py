"""Which block lies in which page, what it follows, and which blocks have a snapshot. Counts no references.

Chained hashes make the blocks of all prompts a forest. A block is known by its page, so that a node costs a few numbers
in columns as long as the pool, one entry of a dict, and no object: an index of a million blocks is a matter of size.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

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
        # Not 0 where no block is, so that a 0 is a leaf.
        self._children = [_NONE] * size
        # A block's own snapshot, and each child at or below which there is one: 0 where no state can be read any more.
        self._covers = array("i", bytes(4 * size))
        self._depths = array("i", bytes(4 * size))
        self._snapshot_of = array("i", [_NONE]) * size
        self.snapshots: dict[int, Snapshot] = {}
        """By the page of the block at whose end they were taken."""

    def __len__(self) -> int:
        return len(self._pages)

    def __contains__(self, block_hash: BlockHash) -> bool:
        return block_hash in self._pages

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
        block = page if self._hashes[page] is not None else self._snapshot_of[page]
        return None if block == _NONE else block

    def owners(self, pages: Sequence[int]) -> Iterable[int]:
        """The leaves whose KV, and the blocks whose snapshots, lie in these pages: where eviction may begin, as other
        blocks lead to these."""
        children = self._children
        owners = set(map(self._snapshot_of.__getitem__, pages))
        owners.discard(_NONE)
        owners.update([page for page in pages if not children[page]])
        return owners

    def depth(self, block: int) -> int:
        """Blocks from the prompt's start to this one's end."""
        return self._depths[block]

    def is_leaf(self, block: int) -> bool:
        return not self._children[block]

    def has_end(self, block: int) -> bool:
        """A leaf, or a block with a snapshot: what of a prompt is of use ends here."""
        return not self._children[block] or block in self.snapshots

    def leading(self, hashes: Sequence[BlockHash]) -> list[int]:
        """Pages of the blocks from a prompt's first on, as far as all are held."""
        found = list(map(self._pages.get, hashes))
        if not found or found[0] is None or self._parents[found[0]] != _NONE:
            return []
        if None in found:
            del found[found.index(None) :]
        return cast("list[int]", found)

    def leading_after(self, parent: int | None, hashes: Sequence[BlockHash]) -> tuple[list[int], int | None]:
        """Pages of the first blocks that follow `parent` and each other; and a block that is held elsewhere."""
        found, parents = list(map(self._pages.get, hashes)), self._parents
        leading: list[int] = []
        above = _NONE if parent is None else parent
        for page in found:
            if page is None:
                break
            if parents[page] != above:
                return leading, page
            leading.append(page)
            above = page
        rest = found[len(leading) :]
        return leading, None if rest.count(None) == len(rest) else next(page for page in rest if page is not None)

    def extend(self, parent: int | None, names: Sequence[BlockHash], pages: Sequence[int]) -> None:
        """Blocks that follow each other."""
        hashes, parents, children, depths = self._hashes, self._parents, self._children, self._depths
        self._pages.update(zip(names, pages, strict=True))
        above, depth = (_NONE, 0) if parent is None else (parent, depths[parent])
        if parent is not None:
            children[parent] += 1
        for name, page in zip(names, pages, strict=True):
            depth += 1
            hashes[page], parents[page], children[page], depths[page] = name, above, 1, depth
            above = page
        children[above] = 0

    def line(self, leaf: int, limit: int) -> list[int]:
        """A leaf and the blocks above it, no more than `limit` in all, that lead only to it and have no snapshot."""
        children, parents, snapshots = self._children, self._parents, self.snapshots
        line, page = [leaf], parents[leaf]
        while page != _NONE and children[page] == 1 and len(line) < limit and page not in snapshots:
            line.append(page)
            page = parents[page]
        return line

    def remove(self, line: list[int]) -> list[BlockHash]:
        """A leaf and blocks of its `line`, without snapshots. Returns their hashes."""
        assert not self._children[line[0]]
        pages, hashes, parent = self._pages, self._hashes, self._parents[line[-1]]
        self._children[line[0]] = _NONE
        gone = []
        for block in line:
            name = hashes[block]
            assert name is not None
            del pages[name]
            hashes[block] = None
            gone.append(name)
        if parent != _NONE:
            self._children[parent] -= 1
        return gone

    def add_snapshot(self, block: int, snapshot: Snapshot) -> int | None:
        """Returns the block above whose snapshot had none below it until now, if there is one."""
        self.snapshots[block] = snapshot
        for page in snapshot.pages:
            self._snapshot_of[page] = block
        covered = self._cover(block)
        return covered if covered != block and covered in self.snapshots and self._covers[covered] == 2 else None

    def remove_snapshot(self, block: int) -> Snapshot:
        snapshot = self.snapshots.pop(block)
        for page in snapshot.pages:
            self._snapshot_of[page] = _NONE
        self._uncover(block)
        return snapshot

    def superseded(self, block: int) -> bool:
        """Whether there is another snapshot below a block's own."""
        return self._covers[block] > 1

    def below(self, blocks: Iterable[int]) -> list[int]:
        """These blocks and all that follow them, parents first."""
        found = set(blocks)
        if not found:
            return []
        for block in self:
            if self._parents[block] in found:
                found.add(block)
        return [block for block in self if block in found]

    def reach(self, block: int) -> tuple[int, int]:
        """Blocks from the snapshot above (or the start) to this one, and how many lead to no other snapshot."""
        covers, parents, snapshots = self._covers, self._parents, self.snapshots
        blocks, alone, page = 1, 1 if covers[block] == 1 else 0, parents[block]
        while page != _NONE and page not in snapshots:
            if alone == blocks and covers[page] == 1:
                alone += 1
            blocks += 1
            page = parents[page]
        return blocks, alone

    def _cover(self, block: int) -> int:
        """Returns the block at which all above knew already of a snapshot below, or none."""
        covers, parents, page = self._covers, self._parents, block
        while page != _NONE:
            covers[page] += 1
            if covers[page] > 1:
                break
            page = parents[page]
        return page

    def _uncover(self, block: int) -> None:
        covers, parents, page = self._covers, self._parents, block
        while page != _NONE:
            covers[page] -= 1
            if covers[page]:
                return
            page = parents[page]

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
        covers = self._counted_covers(children)
        self._demand(all(self._covers[b] == n for b, n in covers.items()), "snapshots below are miscounted")
        for block, snapshot in self.snapshots.items():
            self._demand(block in children, f"snapshot of page {block}, where no block is")
            self._demand({self.owner(p) for p in snapshot.pages} <= {block}, f"snapshot of page {block} shares pages")

    def _counted_covers(self, blocks: Iterable[int]) -> dict[int, int]:
        covers = {block: int(block in self.snapshots) for block in blocks}
        for block in reversed(list(self)):
            parent = self.parent(block)
            if parent is not None and covers[block]:
                covers[parent] += 1
        return covers

    def _demand(self, holds: bool, fault: str) -> None:
        if not holds:
            raise PoolError(fault)

"""The forest of blocks: where they lie, what leads where."""

import pytest

from prfaas.cache.block_tree import BlockTree, Snapshot
from prfaas.core.errors import PoolError
from prfaas.core.ids import BlockHash


def name(block: int) -> BlockHash:
    return BlockHash(block.to_bytes(16, "big"))


def tree_of(*parents: int | None) -> BlockTree:
    """Block i in page i."""
    tree = BlockTree(len(parents) + 4)
    for block, parent in enumerate(parents):
        tree.extend(parent, [name(block)], [block])
    return tree


def take_snapshot(tree: BlockTree, block: int, page: int) -> None:
    tree.add_snapshot(block, Snapshot((page,), 0, 0.0))


def test_blocks_know_their_place() -> None:
    tree = tree_of(None, 0, 1, 1, None)
    assert [tree.depth(b) for b in tree] == [1, 2, 3, 3, 1]
    assert [tree.parent(b) for b in tree] == [None, 0, 1, 1, None]
    assert [tree.is_leaf(b) for b in tree] == [False, False, True, True, True]
    assert tree.parent_hash(3) == name(1)
    assert tree.parent_hash(0) is None
    tree.check()


def test_a_page_belongs_to_the_block_whose_kv_or_snapshot_it_holds() -> None:
    tree = tree_of(None, 0)
    take_snapshot(tree, 1, 4)
    assert [tree.owner(page) for page in (0, 1, 4, 5)] == [0, 1, 1, None]
    tree.remove_snapshot(1)
    tree.remove([1])
    assert [tree.owner(page) for page in (0, 1, 4)] == [0, None, None]


def test_reach_ends_at_the_snapshot_above_and_alone_at_the_first_branch() -> None:
    tree = tree_of(None, 0, 1, 2, 3, 2)
    take_snapshot(tree, 4, 6)
    assert tree.reach(4) == (5, 5), "KV below the last snapshot is of no use to others"
    take_snapshot(tree, 5, 7)
    assert [tree.reach(4), tree.reach(5)] == [(5, 2), (4, 1)]
    take_snapshot(tree, 2, 8)
    assert tree.reach(2) == (3, 0), "KV above other snapshots is of use to them"
    assert [tree.reach(4), tree.reach(5)] == [(2, 2), (1, 1)]
    tree.check()


def test_a_snapshot_is_superseded_by_one_below_it_for_as_long_as_that_is_there() -> None:
    tree = tree_of(None, 0, 1, 2, 1)
    take_snapshot(tree, 1, 5)
    assert not tree.superseded(1)
    assert tree.add_snapshot(3, Snapshot((6,), 0, 0.0)) == 1
    assert tree.superseded(1)
    assert tree.add_snapshot(4, Snapshot((7,), 0, 0.0)) is None, "another one below changes nothing"
    assert tree.add_snapshot(2, Snapshot((8,), 0, 0.0)) is None
    tree.remove_snapshot(4)
    tree.remove_snapshot(2)
    tree.check()
    assert tree.superseded(1)
    tree.remove_snapshot(3)
    assert not tree.superseded(1)
    tree.check()


def test_a_line_ends_at_a_branch_a_snapshot_or_its_limit() -> None:
    tree = tree_of(None, 0, 1, 2, 3, 1)
    assert tree.line(4, 9) == [4, 3, 2]
    assert tree.line(4, 2) == [4, 3]
    take_snapshot(tree, 2, 8)
    assert tree.line(4, 9) == [4, 3]
    assert tree.line(5, 9) == [5]


def test_what_was_removed_is_not_found_and_its_page_can_hold_another_block() -> None:
    tree = tree_of(None, 0, 1)
    assert tree.remove([2, 1]) == [name(2), name(1)]
    assert tree.leading([name(0), name(1)]) == [0]
    tree.extend(None, [name(9)], [1])
    assert (tree.is_leaf(0), tree.is_leaf(1), tree.depth(1), len(tree)) == (True, True, 1, 2)
    tree.check()


@pytest.mark.parametrize(("column", "page", "value"), [("_children", 0, 2), ("_depths", 1, 5), ("_parents", 1, 3)])
def test_check_finds_a_column_that_is_wrong(column: str, page: int, value: int) -> None:
    tree = tree_of(None, 0)
    getattr(tree, column)[page] = value
    with pytest.raises(PoolError):
        tree.check()


def test_check_finds_a_snapshot_without_its_block() -> None:
    tree = tree_of(None)
    take_snapshot(tree, 2, 3)
    with pytest.raises(PoolError, match="no block"):
        tree.check()

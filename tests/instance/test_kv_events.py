"""Changes of a cache as events, and the mirror that late subscribers are told."""

from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prfaas.cache.changes import Change, Cleared, Part, Removed, Stored
from prfaas.control.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent
from prfaas.core.ids import BlockHash
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.instance.kv_events import BLOCKS_PER_EVENT, KvEvents, kv_kind_of


class Told:
    """A publisher that keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[KvEvent]] = []

    def start(self, held: Callable[[], Iterable[KvEvent]]) -> None:
        raise AssertionError(f"no test here starts it with {held}")

    def publish(self, events: Sequence[KvEvent]) -> None:
        self.batches.append(list(events))

    async def close(self) -> None:
        raise AssertionError("no test here starts it")


def name(number: int) -> BlockHash:
    return BlockHash(number.to_bytes(16, "big"))


def kv(number: int, parent: int | None = None) -> Stored:
    return Stored("kv", name(number), None if parent is None else name(parent), (number, number + 1))


def snapshot(number: int) -> Stored:
    return Stored("state", name(number), name(number - 1), ())


def block_stored(names: Sequence[int], parent: int | None, group: int, tokens: Sequence[int]) -> BlockStored:
    hashes = tuple(name(number) for number in names)
    kind = ("full_attention", "mamba")[group]
    above = None if parent is None else name(parent)
    return BlockStored(hashes, above, tuple(tokens), 2, None, "GPU", None, group_idx=group, kv_cache_spec_kind=kind)


def events_of(*changes: Change) -> list[KvEvent]:
    told = Told()
    KvEvents(told, 2, "full_attention").take(changes)
    assert len(told.batches) == 1
    return told.batches[0]


def test_blocks_of_a_chain_are_one_event() -> None:
    changes: list[Change] = [kv(1), kv(2, 1), kv(3, 2), kv(7, 2), snapshot(3)]
    assert events_of(*changes) == [
        block_stored([1, 2, 3], None, 0, [1, 2, 2, 3, 3, 4]),
        block_stored([7], 2, 0, [7, 8]),
        block_stored([3], 2, 1, []),
    ]


def test_removals_of_one_part_are_one_event() -> None:
    gone = [Removed("kv", name(1)), Removed("kv", name(5)), Removed("state", name(5))]
    changes: list[Change] = [*gone, Cleared(), Cleared()]
    removed = [BlockRemoved((name(1), name(5)), "GPU", 0), BlockRemoved((name(5),), "GPU", 1)]
    assert events_of(*changes) == [*removed, AllBlocksCleared(), AllBlocksCleared()]


def test_a_long_chain_is_several_events() -> None:
    chain = [kv(i, i - 1 if i else None) for i in range(BLOCKS_PER_EVENT + 1)]
    first, second = events_of(*chain)
    assert isinstance(first, BlockStored)
    assert len(first.block_hashes) == BLOCKS_PER_EVENT
    assert second == block_stored([BLOCKS_PER_EVENT], BLOCKS_PER_EVENT - 1, 0, chain[-1].token_ids)


def test_nothing_new_is_not_published() -> None:
    told = Told()
    KvEvents(told, 2, "full_attention").take([])
    assert not told.batches


def test_the_mirror_tells_chains_by_name() -> None:
    events = KvEvents(Told(), 2, "mla_attention")
    events.take([kv(1), kv(2, 1), snapshot(2), kv(3, 2)])
    events.take([Removed("kv", name(3)), Removed("kv", name(9))])
    before = events.held()
    events.take([Cleared()])
    assert list(events.held()) == []
    chain, state = before
    assert chain == replace(block_stored([1, 2], None, 0, []), kv_cache_spec_kind="mla_attention")
    assert state == block_stored([2], 1, 1, [])


Holdings = set[tuple[int | None, object]]


def apply(held: Holdings, batches: Sequence[Sequence[KvEvent]]) -> Holdings:
    for event in (event for batch in batches for event in batch):
        match event:
            case BlockStored():
                held |= {(event.group_idx, block) for block in event.block_hashes}
            case BlockRemoved():
                held -= {(event.group_idx, block) for block in event.block_hashes}
            case AllBlocksCleared():
                held.clear()
    return held


both: tuple[Part, Part] = ("kv", "state")
parts = st.sampled_from(both)
numbers = st.integers(0, 6)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    part = draw(parts)
    number = draw(numbers)
    parent = draw(st.none() | numbers.map(name))
    stored = Stored(part, name(number), parent, (number, number) if part == "kv" else ())
    options: list[Change] = [stored, stored, Removed(part, name(number)), Cleared()]
    return draw(st.sampled_from(options))


@given(st.lists(st.lists(changes(), max_size=4), max_size=4))
def test_events_and_mirror_come_to_what_the_cache_holds(batches: list[list[Change]]) -> None:
    told, truth = Told(), set()
    events = KvEvents(told, 2, "full_attention")
    for batch in batches:
        events.take(batch)
        for change in batch:
            match change:
                case Stored(part, block):
                    truth.add((0 if part == "kv" else 1, block))
                case Removed(part, block):
                    truth.discard((0 if part == "kv" else 1, block))
                case Cleared():
                    truth.clear()
    assert apply(set(), told.batches) == truth
    assert apply(set(), [list(events.held())]) == truth


@pytest.mark.parametrize(("kinds", "expected"), [("mla kda", "mla_attention"), ("gqa gdn", "full_attention")])
def test_the_kind_of_attention(kinds: str, expected: str) -> None:
    tensor = CacheTensor("x", (1,), "float32")
    paged = {"mla", "gqa"}
    layers = tuple(LayerCache(kind, kind in paged, (tensor,)) for kind in kinds.split())  # type: ignore[arg-type] # words of the parameter
    assert kv_kind_of(ModelShape("tiny", layers, 100)) == expected

"""Usable prefixes: against a plain model, over lives of instances, and with too little room."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.control.kv_events import AllBlocksCleared, BlockName, BlockRemoved, BlockStored, KvEvent
from prfaas.core.ids import InstanceId, RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.gateway.directory import Applied, Directory, Known
from prfaas.gateway.holdings import MAX_GROUPS
from prfaas.gateway.prompt_blocks import PromptBlocks

ONE = InstanceId("one")
BLOCK = 4


def prompt(tokens: int = 40, salt: str = "", first: int = 0) -> PromptBlocks:
    ids = tuple(range(first, first + tokens))
    return PromptBlocks(Request(RequestId("r"), ids, SamplingParams(max_tokens=1), salt))


def stored(names: Sequence[BlockName], group: int | None, kind: str | None, medium: str | None = "GPU") -> BlockStored:
    return BlockStored(tuple(names), None, (), BLOCK, None, medium, None, group_idx=group, kv_cache_spec_kind=kind)


def kv(*names: BlockName) -> BlockStored:
    return stored(names, 0, "full_attention")


def snapshots(*names: BlockName) -> BlockStored:
    return stored(names, 1, "mamba")


def directory(*events: KvEvent, has_states: bool = True, max_entries: int = 1000) -> Directory:
    one = Directory(has_states=has_states, max_entries=max_entries)
    one.admit(ONE, 1, "f", BLOCK)
    one.apply(ONE, 1, events)
    return one


def cached(one: Directory, of: PromptBlocks) -> int:
    return one.cached_tokens(of).get(ONE, 0)


NAMES = prompt().names("f", BLOCK)


def name(number: int) -> bytes:
    """Of a block of no prompt here."""
    return number.to_bytes(16, "big")


def test_a_prefix_ends_with_a_snapshot() -> None:
    one = directory(kv(*NAMES[:5]), snapshots(NAMES[1], NAMES[2], NAMES[7]))
    assert cached(one, prompt()) == 3 * BLOCK
    one.apply(ONE, 1, [BlockRemoved((NAMES[2],), "GPU", 1)])
    assert cached(one, prompt()) == 2 * BLOCK
    one.apply(ONE, 1, [BlockRemoved((NAMES[0],), "GPU", 0)])
    assert one.cached_tokens(prompt()) == {}
    assert one.known(ONE) == one.total == Known(4, 2)


def test_models_without_states_need_no_snapshot() -> None:
    assert cached(directory(kv(*NAMES[:5]), has_states=False), prompt()) == 5 * BLOCK


def test_the_last_token_is_always_computed() -> None:
    one = directory(kv(*NAMES), snapshots(*NAMES))
    assert [cached(one, prompt(tokens)) for tokens in (1, 4, 5, 8, 9, 40)] == [0, 0, 4, 4, 8, 36]


def test_a_prompt_is_hashed_once() -> None:
    blocks = prompt()
    assert blocks.names("f", BLOCK) is blocks.names("f", BLOCK)
    assert blocks.names("f", BLOCK) != blocks.names("g", BLOCK)


def test_other_tenants_and_other_models_share_nothing() -> None:
    one = directory(kv(*NAMES), snapshots(*NAMES))
    assert cached(one, prompt(salt="mine")) == 0
    assert cached(one, prompt(first=1)) == 0
    one.admit(ONE, 2, "g", BLOCK)
    one.apply(ONE, 2, [kv(*NAMES), snapshots(*NAMES)])
    assert cached(one, prompt()) == 0


def test_each_instance_has_its_own_size_of_blocks() -> None:
    one = directory(kv(*NAMES), snapshots(*NAMES))
    two = InstanceId("two")
    one.admit(two, 1, "f", 8)
    names = prompt().names("f", 8)
    one.apply(two, 1, [kv(*names[:3]), snapshots(names[2])])
    assert one.cached_tokens(prompt()) == {ONE: 36, two: 24}
    assert one.names_for(two, prompt()) == names
    assert one.names_for(InstanceId("three"), prompt()) == ()


def test_another_life_holds_nothing_and_the_earlier_one_is_not_heard() -> None:
    one = directory(kv(*NAMES), snapshots(*NAMES))
    one.admit(ONE, 2, "f", BLOCK)
    one.apply(ONE, 1, [kv(*NAMES), snapshots(*NAMES)])
    assert one.known(ONE) == Known(0, 0)
    one.forget(ONE)
    one.forget(ONE)
    assert one.apply(ONE, 2, [kv(*NAMES)]) == Applied()
    assert one.known(ONE) == one.total == Known(0, 0)
    assert not len(one._holders)


def test_other_tiers_are_not_counted_on() -> None:
    one = directory(kv(name(1), NAMES[0]), stored([NAMES[1]], 0, None, medium="CPU"), snapshots(NAMES[0], NAMES[1]))
    assert one.known(ONE) == Known(2, 2)
    assert cached(one, prompt()) == BLOCK
    one.apply(ONE, 1, [BlockRemoved((NAMES[0],), "STORAGE", 0), BlockRemoved((name(1),), None, 0)])
    assert one.known(ONE) == Known(1, 2)


def test_servers_that_tell_no_groups() -> None:
    one = directory(stored(NAMES, None, None), has_states=False)
    assert cached(one, prompt()) == 36
    one.apply(ONE, 1, [BlockRemoved((NAMES[3],), "GPU")])
    assert cached(one, prompt()) == 12


def test_what_a_group_is_must_be_learned_so_an_unknown_one_is_removed_wherever_it_is() -> None:
    one = directory(kv(*NAMES), snapshots(*NAMES))
    one.apply(ONE, 1, [BlockRemoved((NAMES[3],), "GPU", 7)])
    assert one.known(ONE) == Known(len(NAMES) - 1, len(NAMES) - 1)


def test_the_oldest_go_when_there_are_too_many() -> None:
    one = directory(max_entries=4)
    assert one.apply(ONE, 1, [kv(name(1), name(2), name(3)), snapshots(name(1))]).dropped == 0
    assert one.apply(ONE, 1, [kv(*NAMES[:3])]).dropped == 2
    assert one.known(ONE) == Known(4, 1)
    one.apply(ONE, 1, [snapshots(NAMES[2])])
    assert cached(one, prompt()) == 3 * BLOCK


@pytest.mark.parametrize("limit", [1, 16, 33])
def test_memory_is_bounded(limit: int) -> None:
    one = directory(max_entries=limit)
    told = [[kv(name(number)), snapshots(name(number))] for number in range(200)]
    dropped = sum(one.apply(ONE, 1, events).dropped for events in told)
    assert one.known(ONE).blocks == one.known(ONE).snapshots == (400 - dropped) / 2
    assert 0 < one.known(ONE).blocks <= limit


def test_memory_is_bounded_in_total_and_the_fullest_gives_up_its_oldest() -> None:
    one = Directory(has_states=False, max_total_entries=100)
    few, many = InstanceId("few"), InstanceId("many")
    for instance_id in (few, many):
        one.admit(instance_id, 1, "f", BLOCK)
    one.apply(few, 1, [kv(*NAMES)])
    dropped = sum(one.apply(many, 1, [kv(name(2 * i), name(2 * i + 1))]).dropped for i in range(200))
    assert one.known(few) == Known(10, 0)
    assert one.known(many).blocks == 400 - dropped == 100 - 10 - (100 - one.total.blocks)
    assert 80 <= one.total.blocks <= 100
    one.apply(many, 1, [kv(*NAMES)])
    assert one.cached_tokens(prompt()) == {few: 36, many: 36}
    one.forget(many)
    assert one.apply(few, 1, [kv(*(name(i) for i in range(90)))]).dropped == 0


indices = st.lists(st.integers(0, 9), max_size=5)
changes = st.lists(
    st.tuples(st.sampled_from(["store", "remove", "clear"]), st.sampled_from([0, 1]), indices), max_size=12
)


def as_event(kind: str, group: int, names: Sequence[BlockName]) -> KvEvent:
    match kind:
        case "store":
            return (kv, snapshots)[group](*names)
        case "remove":
            return BlockRemoved(tuple(names), "GPU", group)
        case _:
            return AllBlocksCleared()


@given(changes, st.booleans(), st.integers(1, 40))
def test_it_agrees_with_a_plain_model(told: list[tuple[str, int, list[int]]], has_states: bool, tokens: int) -> None:
    one = directory(kv(name(99)), snapshots(name(99)), has_states=has_states)
    held: tuple[set[int], set[int]] = set(), set()
    for kind, group, blocks in told:
        one.apply(ONE, 1, [as_event(kind, group, [NAMES[i] for i in blocks])])
        if kind == "store":
            held[group].update(blocks)
        elif kind == "remove":
            held[group].difference_update(blocks)
        else:
            held[0].clear()
            held[1].clear()
    lengths = [
        length
        for length in range(1, len(NAMES) + 1)
        if length * BLOCK < tokens and held[0].issuperset(range(length)) and (not has_states or length - 1 in held[1])
    ]
    assert cached(one, prompt(tokens)) == max(lengths, default=0) * BLOCK


@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), changes), max_size=6), st.booleans())
def test_instances_do_not_mix(told: list[tuple[str, list[tuple[str, int, list[int]]]]], has_states: bool) -> None:
    """All together answer as each would alone."""
    ids = [InstanceId(name) for name in ("one", "two", "three")]
    together = Directory(has_states=has_states)
    alone = {instance_id: Directory(has_states=has_states) for instance_id in ids}
    for instance_id in ids:
        for each in (together, alone[instance_id]):
            each.admit(instance_id, 1, "f", BLOCK)
    for name, events in told:
        batch = [as_event(kind, group, [NAMES[i] for i in blocks]) for kind, group, blocks in events]
        for each in (together, alone[InstanceId(name)]):
            each.apply(InstanceId(name), 1, batch)
    expected = [alone[instance_id].cached_tokens(prompt()) for instance_id in ids]
    assert together.cached_tokens(prompt()) == expected[0] | expected[1] | expected[2]
    for instance_id in ids:
        assert together.known(instance_id) == alone[instance_id].known(instance_id)
        together.forget(instance_id)
    assert not len(together._holders)


def test_groups_without_number_take_no_room() -> None:
    one = directory(*(stored([], group, "mamba") for group in range(10 * MAX_GROUPS)))
    assert len(one._instances[ONE]._part_of_group) == MAX_GROUPS
    beyond = 10 * MAX_GROUPS
    one.apply(ONE, 1, [stored(NAMES[:5], beyond, "full_attention"), snapshots(NAMES[4])])
    assert cached(one, prompt()) == 5 * BLOCK
    one.apply(ONE, 1, [BlockRemoved((NAMES[4],), "GPU", beyond)])
    assert cached(one, prompt()) == 0, "what is not known for certain is not counted on"

"""Blocks that an engine names in its own way, by our names: what can be named, and what is forgotten."""

import pytest
from msgspec.structs import replace

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.control.kv_events import AllBlocksCleared, BlockRemoved, BlockStored
from prfaas.core.ids import InstanceId, RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.gateway.directory import Applied, Directory, Known
from prfaas.gateway.foreign_names import ForeignNames, Named
from prfaas.gateway.prompt_blocks import PromptBlocks

TOKENS = tuple(range(50, 63))
NAMES = tuple(block_hashes(root_hash("f", ""), TOKENS, 4))  # three blocks
ONE = InstanceId("one")


def stored(*names: int | bytes, parent: int | None = None, first: int = 0, group: int = 0) -> BlockStored:
    tokens = TOKENS[first * 4 : (first + len(names)) * 4]
    kind = ("full_attention", "mamba")[group]
    return BlockStored(names, parent, tokens, 4, None, "GPU", None, group_idx=group, kv_cache_spec_kind=kind)


def test_tokens_say_what_a_block_is() -> None:
    theirs = ForeignNames("f", 4)
    assert theirs.learn(stored(1, 2)) == Named(NAMES[:2])
    assert theirs.learn(stored(3, parent=2, first=2)) == Named(NAMES[2:])
    assert theirs.learn(replace(stored(3, 1, 7), token_ids=())) == Named((NAMES[2], NAMES[0]), unnamed=1)
    assert theirs.ours([2, 9, 1]) == [NAMES[1], NAMES[0]]


def test_what_follows_an_unknown_block_has_no_name_until_it_is_told() -> None:
    theirs = ForeignNames("f", 4)
    late = stored(2, 3, parent=1, first=1)
    assert theirs.learn(late) == Named(unnamed=2)
    theirs.learn(stored(1))
    assert theirs.learn(late) == Named(NAMES[1:])


@pytest.mark.parametrize("wrong", [{"block_size": 2}, {"token_ids": TOKENS[:4]}])
def test_blocks_of_another_size_have_no_name(wrong: dict[str, object]) -> None:
    assert ForeignNames("f", 4).learn(replace(stored(1, 2), **wrong)) == Named(unnamed=2)


@pytest.mark.parametrize("adapter", [{"lora_id": 1}, {"lora_name": "mine"}])
def test_blocks_of_an_adapter_are_private(adapter: dict[str, object]) -> None:
    theirs = ForeignNames("f", 4)
    assert theirs.learn(replace(stored(1, 2), **adapter)) == Named(private=2)
    assert theirs.learn(stored(3, parent=2, first=2)) == Named(private=1)


def test_a_block_with_keys_of_its_own_is_private_and_so_is_what_follows() -> None:
    theirs = ForeignNames("f", 4)
    assert theirs.learn(replace(stored(1, 2, 3), extra_keys=(None, ("image",), None))) == Named(NAMES[:1], private=2)
    assert theirs.learn(stored(3, parent=2, first=2)) == Named(private=1)
    assert theirs.learn(replace(stored(1, 2), extra_keys=((), None))) == Named(NAMES[:2])


def test_who_is_not_held_is_forgotten_first_and_then_the_oldest() -> None:
    theirs = ForeignNames("f", 4)
    theirs.learn(stored(1, 2, 3))
    assert theirs.drop(1, lambda name: name != NAMES[1]) == []
    assert theirs.ours([1, 2, 3]) == [NAMES[0], NAMES[2]]
    assert theirs.drop(1, lambda _: True) == [NAMES[0]]
    assert theirs.drop(5, lambda _: True) == [NAMES[2]]
    assert not len(theirs)


def followed(max_entries: int = 1000) -> Directory:
    one = Directory(has_states=False, max_entries=max_entries)
    one.admit(ONE, 1, "f", 4)
    return one


def test_prompts_are_found_where_another_engine_has_them() -> None:
    one = followed()
    prompt = PromptBlocks(Request(RequestId("r"), TOKENS, SamplingParams(max_tokens=1)))
    assert one.apply(ONE, 1, [stored(1, 2), stored(3, parent=2, first=2)]) == Applied()
    assert one.cached_tokens(prompt) == {ONE: 12}
    one.apply(ONE, 1, [BlockRemoved((2,), "GPU", 0), BlockRemoved((77,), "GPU", 0)])
    assert one.cached_tokens(prompt) == {ONE: 4}
    one.apply(ONE, 1, [AllBlocksCleared()])
    assert one.cached_tokens(prompt) == {}
    assert one.apply(ONE, 1, [stored(8, parent=9, first=2), replace(stored(1), lora_id=3)]) == Applied(
        unnamed=1, private=1
    )


def test_the_first_names_decide_what_names_are() -> None:
    """Else what an engine of two kinds of names had stored as one kind could not be taken back as the other."""
    one = followed()
    one.apply(ONE, 1, [stored(1), BlockRemoved((NAMES[0],), "GPU", 0)])
    assert one.known(ONE) == Known(1, 0)
    one.apply(ONE, 1, [stored(NAMES[0]), BlockRemoved((NAMES[0],), "GPU", 0), BlockRemoved((1,), "GPU", 0)])
    assert one.known(ONE) == Known(0, 0)


def test_what_is_held_under_a_name_that_had_to_go_is_let_go_with_it() -> None:
    """Nobody could take it back."""
    one = Directory(has_states=True, max_entries=2)
    one.admit(ONE, 1, "f", 4)
    one.apply(ONE, 1, [stored(1), stored(2, parent=1, first=1, group=1)])
    assert one.known(ONE) == Known(1, 1)
    assert one.apply(ONE, 1, [stored(3, parent=2, first=2)]).dropped == 1
    assert one.known(ONE) == Known(1, 1)
    one.apply(ONE, 1, [BlockRemoved((1, 3), "GPU", 0), BlockRemoved((2,), "GPU", 1)])
    assert one.total == Known(0, 0)

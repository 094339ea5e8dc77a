"""The number of a prefix: by its formula, whatever it is taken up from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prfaas.engine.emulated.chain import NOTHING, following, mixed, numbers

tokens = st.lists(st.integers(0, 200_000), min_size=1, max_size=200).map(tuple)


@given(tokens)
def test_each_number_follows_from_the_one_before(token_ids: tuple[int, ...]) -> None:
    expected, before = [], NOTHING
    for token_id in token_ids:
        before = following(before, token_id)
        expected.append(before)
    assert numbers(NOTHING, token_ids).tolist() == expected


@given(tokens, tokens)
def test_a_chain_is_taken_up_anywhere(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    whole = numbers(NOTHING, first + second)
    begun = numbers(NOTHING, first)
    assert np.array_equal(whole, np.concatenate([begun, numbers(int(begun[-1]), second)]))


def test_a_prompt_longer_than_any_before_has_numbers_too() -> None:
    long = tuple(i % 977 for i in range(140_000))
    assert int(numbers(NOTHING, long)[-1]) == int(numbers(int(numbers(NOTHING, long[:-1])[-1]), long[-1:])[0])


@given(tokens, st.data())
def test_another_token_changes_all_numbers_behind_it(token_ids: tuple[int, ...], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(token_ids) - 1))
    other = (*token_ids[:at], token_ids[at] + 1, *token_ids[at + 1 :])
    same = numbers(NOTHING, token_ids) == numbers(NOTHING, other)
    assert same.tolist() == [True] * at + [False] * (len(token_ids) - at)


def test_neighbours_are_mixed_apart() -> None:
    values = mixed(np.arange(1000, dtype=np.uint64))
    assert len(set(values.tolist())) == 1000
    low = values % np.uint64(16)
    assert all(30 < int((low == digit).sum()) < 100 for digit in range(16))

"""Token ids and page names that stand for blocks."""

import pytest

from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.step.prompts import answer_tokens, page_names, prompt_tokens


@pytest.mark.parametrize("prompt", [1, 511, 512, 1500])
@pytest.mark.parametrize("output", [1, 700])
def test_lengths_are_those_asked_for_and_numbers_are_token_ids(prompt: int, output: int) -> None:
    asked = Arrival(2**40 + 3, 0.0, prompt, output, tuple(2**33 + i for i in range(prompt // 512)))
    assert (len(prompt_tokens(asked)), len(answer_tokens(asked))) == (prompt, output)
    assert all(0 <= token < 2**32 for token in prompt_tokens(asked) + answer_tokens(asked))


def test_equal_blocks_have_equal_names_up_to_where_prompts_part() -> None:
    one = Arrival(1, 0.0, 1600, 1, (5, 6, 7))
    two = Arrival(2, 0.0, 1600, 1, (5, 6, 8))
    names = [page_names(asked, 64) for asked in (one, two)]
    assert names[0][:16] == names[1][:16]
    assert set(names[0][16:]).isdisjoint(names[1][16:])
    assert len(set(names[0])) == 25


def test_the_order_of_blocks_matters() -> None:
    one, two = Arrival(1, 0.0, 1024, 1, (5, 6)), Arrival(2, 0.0, 1024, 1, (6, 5))
    assert set(page_names(one, 64)).isdisjoint(page_names(two, 64))


def test_pages_may_straddle_blocks() -> None:
    one, two = Arrival(1, 0.0, 1024, 1, (5, 6)), Arrival(2, 0.0, 1024, 1, (5, 7))
    both = list(zip(page_names(one, 48), page_names(two, 48), strict=True))
    assert [a == b for a, b in both] == [True] * 10 + [False] * 11


def test_the_next_turn_begins_with_prompt_and_answer() -> None:
    asked = Arrival(1, 0.0, 1500, 600, (5, 6), answer_blocks=(7, 8))
    following = Arrival(2, 9.0, 2600, 1, (5, 6, 7, 8, 9))
    said = prompt_tokens(asked) + answer_tokens(asked)
    assert said[:2048] == prompt_tokens(following)[:2048]
    assert said[2048:] != prompt_tokens(following)[2048:2100]

"""Shares of one step's prefill: bounded by the budget, whole pages, nobody left out who could have had some."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.scheduler.shares import CUT_TOKENS, MAX_SHARES, Want, divide


@pytest.mark.parametrize(
    ("wants", "budget", "lengths"),
    [
        pytest.param([], 100, [], id="nobody"),
        pytest.param([(0, 1000)], 300, [256], id="alone, whole pages"),
        pytest.param([(0, 70)], 300, [70], id="alone, to its end"),
        pytest.param([(0, 1000), (0, 1000)], 256, [128, 128], id="equal shares"),
        pytest.param([(0, 1000), (0, 50), (0, 1000)], 384, [192, 50, 128], id="what is left flows on, in order"),
        pytest.param([(0, 1000)] * 6, 640, [256, 128, 128, 128, 0, 0], id="no more than four"),
        pytest.param([(0, 1000), (0, 1000)], 100, [64, 0], id="one page, so one place"),
        pytest.param([(0, 20), (0, 1000)], 100, [20, 64], id="a short one, and a page for the next"),
        pytest.param([(16, 1000), (0, 1000)], 128, [48, 64], id="up to the next page boundary"),
        pytest.param([(0, 1000), (0, 1000)], 40, [32, 0], id="less than a page: multiples of 16"),
        pytest.param([(10, 1000)], 40, [38], id="up to the next multiple of 16"),
        pytest.param([(0, 1000), (0, 5)], 7, [7, 0], id="less than that: progress all the same"),
        pytest.param([(40, 1000), (0, 5)], 12, [8, 0], id="a cut may be close"),
    ],
)
def test_examples(wants: list[tuple[int, int]], budget: int, lengths: list[int]) -> None:
    assert divide([Want(*want) for want in wants], budget, 64) == lengths


WANTS = st.lists(st.builds(Want, st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=8)


@given(WANTS, st.integers(1, 600), st.sampled_from([1, 4, 16, 24, 64]))
def test_shares_fit_and_cuts_lie_at_boundaries(wants: list[Want], budget: int, page_tokens: int) -> None:
    lengths = divide(wants, budget, page_tokens)
    assert len(lengths) == len(wants)
    assert sum(lengths) <= budget
    assert lengths[0] > 0
    assert sum(length > 0 for length in lengths) <= MAX_SHARES
    for i, (want, length) in enumerate(zip(wants, lengths, strict=True)):
        assert 0 <= length <= want.remaining
        end = want.start + length
        if 0 < length < want.remaining and end % page_tokens:
            assert i == 0
            assert budget < page_tokens
            assert end % CUT_TOKENS == 0 or length == budget


@given(WANTS, st.integers(1, 600), st.sampled_from([1, 4, 16, 24, 64]))
def test_nothing_of_use_is_left_over(wants: list[Want], budget: int, page_tokens: int) -> None:
    lengths = divide(wants, budget, page_tokens)
    left = budget - sum(lengths)
    for want, length in list(zip(wants, lengths, strict=True))[:MAX_SHARES]:
        to_boundary = page_tokens - (want.start + length) % page_tokens
        assert length == want.remaining or left < min(to_boundary, want.remaining - length)

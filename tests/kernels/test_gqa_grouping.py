from hypothesis import given
from hypothesis import strategies as st

from prfaas_kernels.gqa.grouping import group_by_length


@given(st.lists(st.integers(1, 5000), max_size=40), st.integers(1, 8000), st.integers(0, 500))
def test_groups_cover_all_within_their_bounds(lengths: list[int], max_tokens: int, max_padding: int) -> None:
    groups = group_by_length(lengths, max_tokens, max_padding)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        longest = lengths[group[0]]
        assert longest == max(lengths[i] for i in group)
        assert longest - min(lengths[i] for i in group) <= max_padding
        assert len(group) == 1 or longest * len(group) <= max_tokens


def test_similar_lengths_share_a_group() -> None:
    assert group_by_length([10, 500, 11, 490, 12], max_tokens=2000, max_padding=20) == [[1, 3], [4, 2, 0]]

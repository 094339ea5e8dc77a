"""Where snapshots are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.snapshot_policy import SnapshotPolicy


@pytest.mark.parametrize(
    ("start", "prompt", "branch", "expected"),
    [
        (0, 1000, 0, (960,)),
        (0, 960, 0, (896,)),
        (0, 961, 0, (960,)),
        (0, 64, 0, ()),
        (960, 1000, 0, ()),
        (0, 1000, 512, (512, 960)),
        (512, 1000, 512, (960,)),
        (0, 512, 512, (448,)),
        (0, 20_000, 0, (8192, 16_384, 19_968)),
        (0, 16_448, 0, (8192, 16_384)),
        (0, 17_000, 0, (8192, 16_960)),
        (8000, 30_000, 0, (16_384, 24_576, 29_952)),
        (0, 20_000, 8256, (8256, 16_384, 19_968)),
    ],
)
def test_positions(start: int, prompt: int, branch: int, expected: tuple[int, ...]) -> None:
    assert SnapshotPolicy(block_tokens=64).positions(start, prompt, branch) == expected


def test_no_spacing_leaves_the_end_and_the_branch() -> None:
    assert SnapshotPolicy(64, every_tokens=0).positions(0, 100_000, 6400) == (6400, 99_968)


def test_a_spacing_that_is_no_whole_number_of_blocks_is_rounded_up() -> None:
    assert SnapshotPolicy(64, every_tokens=1000).positions(0, 3000, 0) == (1024, 2048, 2944)


@given(
    block=st.integers(1, 64),
    every=st.integers(0, 500),
    start_blocks=st.integers(0, 50),
    prompt=st.integers(1, 3000),
    branch_blocks=st.integers(0, 60),
)
def test_positions_are_boundaries_that_the_prompt_passes(
    block: int, every: int, start_blocks: int, prompt: int, branch_blocks: int
) -> None:
    start = min(start_blocks, (prompt - 1) // block) * block
    branch = branch_blocks * block
    positions = SnapshotPolicy(block, every).positions(start, prompt, branch)
    assert list(positions) == sorted(set(positions))
    assert all(start < p < prompt and p % block == 0 for p in positions)
    last = (prompt - 1) // block * block
    assert last in positions or last == start
    assert branch in positions or not start < branch < prompt

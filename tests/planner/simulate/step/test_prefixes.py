"""Cached prefixes at fidelity step: what is found again shortens prefills, and only where states are known."""

import pytest

from tests.planner.simulate.step.stage import PREFILL, Stage, arrival, profile

BLOCKS = tuple(range(100, 120))
"""10,240 tokens."""


def turn(
    number: int, more: int, blocks: tuple[int, ...] = BLOCKS, output: int = 1
) -> tuple[int, int, int, tuple[int, ...]]:
    return number, 512 * len(blocks) + more, output, blocks


@pytest.mark.parametrize("state_pages", [0, 10])
def test_a_prompt_that_was_there_before_is_computed_from_its_last_whole_page_on_or_its_last_name(
    state_pages: int,
) -> None:
    stage = Stage(profile(state_pages=state_pages))
    stage.serve(arrival(*turn(1, 0)))
    again = stage.serve(arrival(*turn(2, 0)), at_s=10.0)
    stage.run()
    assert stage.jobs[1].cached_tokens == 0
    rest = 512 if state_pages else 64
    assert (again.cached_tokens, again.computed_tokens) == (10_240 - rest, rest)
    assert stage.at("prefilled", 2) == pytest.approx(10.0 + PREFILL.seconds(10_240, 10_240 - rest))
    assert stage.expected_s[2] == pytest.approx(PREFILL.seconds(10_240, 10_240 - rest))
    assert stage.empty()


def test_pages_without_states_at_their_end_are_of_no_use_where_there_are_states() -> None:
    """The first prompt leaves a snapshot at its end alone; the second parts from it before, and leaves one there."""
    for state_pages, second in ((10, 0), (0, 5120)):
        stage = Stage(profile(state_pages=state_pages), snapshot_every=0)
        stage.serve(arrival(*turn(1, 0)))
        stage.serve(arrival(2, 10_240, 1, (*BLOCKS[:10], 900)), at_s=10.0)
        stage.serve(arrival(3, 10_240, 1, (*BLOCKS[:10], 901)), at_s=20.0)
        stage.run()
        assert [stage.jobs[n].cached_tokens for n in (2, 3)] == [second, 5120]


def test_spaced_snapshots_are_found_inside_of_long_prompts() -> None:
    stage = Stage(profile(), snapshot_every=4096)
    stage.serve(arrival(*turn(1, 0)))
    stage.serve(arrival(2, 10_240, 1, (*BLOCKS[:10], 900)), at_s=10.0)
    stage.run()
    assert stage.jobs[2].cached_tokens == 4096


@pytest.mark.parametrize("state_pages", [0, 10])
def test_the_next_turn_finds_the_answer(state_pages: int) -> None:
    """All of it without states; with them as far as the last of its snapshots, of which it leaves one in 256 tokens."""
    stage = Stage(profile(state_pages=state_pages))
    answer = (500, 501, 502)
    stage.serve(arrival(1, 10_240 + 256, 1024, BLOCKS, answer_blocks=answer))
    stage.serve(arrival(2, 12_000, 1, (*BLOCKS, *answer)), at_s=100.0)
    stage.run()
    said = 10_240 + 256 + 1024
    assert (said - 256 if state_pages else said - 64) <= stage.jobs[2].cached_tokens < said


def test_what_no_block_names_is_found_by_nobody() -> None:
    stage = Stage(profile())
    stage.serve(arrival(1, 5000))
    stage.serve(arrival(2, 5000), at_s=10.0)
    stage.serve(arrival(*turn(3, 500)), at_s=20.0)
    stage.serve(arrival(*turn(4, 500)), at_s=30.0)
    stage.run()
    assert stage.jobs[2].cached_tokens == 0
    assert stage.jobs[4].cached_tokens <= 10_240


def test_an_import_holds_what_is_cached_of_its_prompt() -> None:
    stage = Stage(profile())
    stage.serve(arrival(*turn(1, 0)))
    stage.reserve(arrival(*turn(2, 700, output=3)), at_s=10.0)
    stage.run()
    assert stage.jobs[2].held_tokens == 10_240
    assert stage.jobs[2].computed_tokens == 0
    assert stage.empty()


def test_asking_what_is_cached_changes_nothing_and_is_what_a_prefill_finds() -> None:
    stage = Stage(profile())
    stage.serve(arrival(*turn(1, 0)))
    stage.run()
    for number, blocks in enumerate((BLOCKS, BLOCKS[:16], (*BLOCKS[:16], 7), (*BLOCKS, 7, 8), (7,)), start=2):
        asked = arrival(*turn(number, 100, blocks))
        before = stage.instance.load()
        found = stage.instance.cached_tokens(asked)
        assert stage.instance.cached_tokens(asked) == found
        assert stage.instance.load() == before
        stage.export(asked, at_s=100.0 * number)
        stage.run()
        assert stage.jobs[number].cached_tokens == found
    assert stage.instance.cached_tokens(arrival(99, 5000)) == 0


@pytest.mark.parametrize("state_pages", [0, 10])
def test_a_prefix_from_elsewhere_is_cached_here(state_pages: int) -> None:
    stage = Stage(profile(state_pages=state_pages))
    asked = arrival(*turn(1, 500))
    stage.instance.import_prefix(asked, 5120 + 63)
    assert stage.instance.cached_tokens(asked) == 5120
    stage.instance.import_prefix(asked, 10_240)
    stage.instance.import_prefix(asked, 10_240)
    assert stage.instance.cached_tokens(asked) == 10_240
    stage.serve(asked)
    stage.run()
    assert stage.jobs[1].cached_tokens == 10_240
    assert stage.empty()


def test_a_prefix_from_elsewhere_takes_no_more_than_there_is_room() -> None:
    """110 pages of 200 are taken by a request that waits for its KV."""
    for state_pages, found in ((0, 90 * 64), (10, 0)):
        stage = Stage(profile(pages=200, state_pages=state_pages), transfer_s=None)
        stage.reserve(arrival(1, (110 - state_pages) * 64))
        stage.run()
        asked = arrival(*turn(2, 500))
        stage.instance.import_prefix(asked, 10_240)
        assert stage.instance.cached_tokens(asked) == found
        stage.instance.check()


def test_a_disabled_cache_finds_nothing() -> None:
    stage = Stage(profile(), cached=False)
    stage.serve(arrival(*turn(1, 0)))
    stage.serve(arrival(*turn(2, 0)), at_s=10.0)
    stage.run()
    stage.instance.import_prefix(arrival(*turn(3, 0)), 10_240)
    assert stage.jobs[2].cached_tokens == stage.instance.cached_tokens(arrival(*turn(3, 0))) == 0
    assert stage.empty()

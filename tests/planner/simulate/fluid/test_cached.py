"""What prompts find of those before them, with states and without, and that nothing stays held."""

import random
from collections.abc import Callable

import pytest

from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.job import Job
from tests.planner.simulate.fluid.stage import TOKEN_S, Stage, arrival, engine, profile

BLOCKS = tuple(range(20))
"""10,240 tokens."""
OTHER = tuple(range(100, 120))


def cached_after(stage: Stage, first: Arrival, then: Arrival) -> int:
    """Tokens of `then` that are cached when `first` is over."""
    stage.at(0.0, stage.instance.export if stage.instance.role == "prefill" else stage.instance.serve, first)
    stage.loop.run()
    return stage.instance.cached_tokens(then)


def test_a_prefix_is_not_computed_again() -> None:
    stage = Stage()
    stage.at(0.0, stage.instance.export, arrival(0, 10_300, blocks=BLOCKS))
    again = stage.at(50.0, stage.instance.export, arrival(1, 12_000, blocks=(*BLOCKS, 50)))
    stage.loop.run()
    assert again.cached_tokens == 10_240
    assert again.computed_tokens == 12_000 - 10_240
    assert stage.when("prefilled", 1) == pytest.approx(50 + (12_000 - 10_240) * TOKEN_S)
    stage.assert_nothing_held()


def test_one_token_is_always_computed() -> None:
    assert cached_after(Stage(), arrival(0, 10_240, blocks=BLOCKS), arrival(1, 10_240, blocks=BLOCKS)) == 19 * 512


def test_nothing_is_known_of_others_or_without_blocks() -> None:
    stage = Stage()
    assert stage.instance.cached_tokens(arrival(0, 10_300, blocks=BLOCKS)) == 0
    assert cached_after(stage, arrival(0, 10_300, blocks=BLOCKS), arrival(1, 10_300, blocks=OTHER)) == 0
    assert stage.instance.cached_tokens(arrival(2, 10_300)) == 0
    # The same blocks after others are other tokens.
    assert stage.instance.cached_tokens(arrival(3, 10_300, blocks=BLOCKS[1:])) == 0


def test_a_cache_that_is_off_keeps_nothing() -> None:
    stage = Stage(an_engine=engine(cache=False))
    assert cached_after(stage, arrival(0, 10_300, blocks=BLOCKS), arrival(1, 10_300, blocks=BLOCKS)) == 0


@pytest.mark.parametrize(("shared", "usable"), [(20, 20), (19, 16), (16, 16), (15, 0), (3, 0)])
def test_with_states_a_prefix_is_usable_where_a_snapshot_is(shared: int, usable: int) -> None:
    # Snapshots after 8,192 tokens and at the last whole block's end.
    stage = Stage(a_profile=profile(state_blocks=3))
    then = arrival(1, 20_000, blocks=BLOCKS[:shared] + OTHER)
    assert cached_after(stage, arrival(0, 10_300, blocks=BLOCKS), then) == usable * 512
    stage.assert_nothing_held()


def test_where_prompts_part_the_second_leaves_a_snapshot_for_the_third() -> None:
    stage = Stage(a_profile=profile(state_blocks=3), an_engine=engine(every_tokens=0))
    for number in range(3):
        own = tuple(1000 * (number + 1) + i for i in range(10))
        stage.at(50.0 * number, stage.instance.export, arrival(number, 7_700, blocks=BLOCKS[:5] + own))
    stage.loop.run()
    assert [job.cached_tokens for job in stage.jobs] == [0, 0, 5 * 512]
    assert stage.instance.cached_tokens(arrival(9, 7_700, blocks=BLOCKS[:5] + OTHER)) == 5 * 512


def test_an_answer_is_found_by_the_next_turn() -> None:
    for states in (0, 3):
        stage = Stage("decode", profile(state_blocks=states))
        first = arrival(0, 10_300, 900, BLOCKS, answer_blocks=(20,))
        assert cached_after(stage, first, arrival(1, 12_000, blocks=(*BLOCKS, 20, 21))) == 21 * 512
        stage.assert_nothing_held()


def test_a_prompt_whose_prefix_is_being_computed_waits_for_it() -> None:
    stage = Stage(a_profile=profile(state_blocks=3))
    stage.at(0.0, stage.instance.export, arrival(0, 10_300, blocks=BLOCKS))
    twin = stage.at(0.1, stage.instance.export, arrival(1, 10_400, blocks=BLOCKS))
    stage.at(0.2, stage.instance.export, arrival(2, 3000, blocks=OTHER[:5]))
    stage.loop.run()
    assert twin.cached_tokens == 10_240
    assert stage.when("started", 2) < stage.when("prefilled", 0) <= stage.when("started", 1)


def test_a_small_pool_evicts_and_never_overflows() -> None:
    stage = Stage(a_profile=profile(state_blocks=3, pool_blocks=60))
    for number in range(40):
        blocks = tuple(range(number % 7 * 100, number % 7 * 100 + 20))
        stage.at(float(number), stage.instance.export, arrival(number, 10_300, blocks=blocks))
    stage.loop.run()
    assert all("prefilled" in stage.names(number) for number in range(40))
    assert stage.instance._cache.evicted_blocks > 0
    stage.assert_nothing_held()


def test_who_finds_no_memory_waits_and_holds_back_those_behind() -> None:
    stage = Stage(a_profile=profile(pool_blocks=30), hold=True)
    jobs = [stage.at(0.0, stage.instance.export, arrival(n, tokens)) for n, tokens in enumerate([10_000, 8_000, 500])]
    stage.loop.at(60.0, stage.instance.release, jobs[0])
    stage.loop.run()
    assert stage.when("started", 1) == stage.when("started", 2) == pytest.approx(60.0)


def test_alone_a_prompt_does_without_what_it_has_no_room_to_reuse() -> None:
    stage = Stage(a_profile=profile(state_blocks=8, pool_blocks=34))
    stage.at(0.0, stage.instance.export, arrival(0, 10_300, blocks=BLOCKS))
    # 25 pages and a state fill 33 of 34, so the snapshot that it could go on from cannot stay.
    stage.at(50.0, stage.instance.export, arrival(1, 12_500, blocks=(*BLOCKS, 50, 51, 52, 53)))
    stage.loop.run()
    assert "prefilled" in stage.names(1)
    stage.assert_nothing_held()


@pytest.mark.parametrize("states", [0, 3])
def test_a_prefix_from_elsewhere_is_as_good_as_one_s_own(states: int) -> None:
    stage = Stage(a_profile=profile(state_blocks=states))
    asked = arrival(0, 12_000, blocks=BLOCKS)
    stage.instance.import_prefix(asked, 15 * 512)
    assert stage.instance.cached_tokens(asked) == 15 * 512
    stage.instance.import_prefix(asked, 18 * 512)
    assert stage.instance.cached_tokens(asked) == 18 * 512
    stage.instance.import_prefix(asked, 0)
    stage.assert_nothing_held()


@pytest.mark.parametrize(("states", "cached"), [(0, 10), (3, 0)])
def test_of_a_prefix_from_elsewhere_stays_what_has_room(states: int, cached: int) -> None:
    stage = Stage(a_profile=profile(state_blocks=states, pool_blocks=10))
    stage.instance.import_prefix(arrival(0, 12_000, blocks=BLOCKS), 20 * 512)
    assert stage.instance.cached_tokens(arrival(0, 12_000, blocks=BLOCKS)) == cached * 512
    stage.assert_nothing_held()


RELEASES: dict[str, Callable[[Stage, Job], None]] = {
    "waiting": lambda stage, job: stage.loop.at(0.5, stage.instance.release, job),
    "computing": lambda stage, job: stage.loop.at(15.0, stage.instance.release, job),
    "computed": lambda stage, _: stage.on.update(prefilled=stage.instance.release),
    "decoding": lambda stage, _: stage.on.update(first=stage.instance.release),
    "starting": lambda stage, _: stage.on.update(started=stage.instance.release),
}


@pytest.mark.parametrize("phase", RELEASES)
def test_a_job_may_be_given_up_in_any_phase(phase: str) -> None:
    stage = Stage("decode", profile(state_blocks=3))
    # Something runs, so that the job waits until ten seconds have passed.
    stage.at(0.0, stage.instance.serve, arrival(0, 8_192))
    job = stage.at(0.1, stage.instance.serve, arrival(1, 10_300, 50, BLOCKS))
    RELEASES[phase](stage, job)
    stage.loop.run()
    assert "finished" not in stage.names(1)
    stage.instance.release(job)
    stage.assert_nothing_held()


@pytest.mark.parametrize("at_s", [0.05, 1.0])
def test_a_reservation_may_be_given_up(at_s: float) -> None:
    stage = Stage("decode", profile(state_blocks=3), hold=True)
    job = stage.at(0.0, stage.instance.reserve, arrival(0, 10_300, 50, BLOCKS))
    stage.loop.at(at_s, stage.instance.begin_decode, job)
    stage.loop.at(at_s, stage.instance.release, job)
    stage.loop.run()
    assert stage.names(0) == ["reserved"]
    stage.assert_nothing_held()


def test_an_import_whose_kv_does_not_come_is_computed_here_with_what_is_cached() -> None:
    stage = Stage("decode", profile(state_blocks=3))
    stage.at(0.0, stage.instance.serve, arrival(0, 10_300, 2, BLOCKS))
    stage.loop.run()
    stage._hold = True
    job = stage.at(50.0, stage.instance.reserve, arrival(1, 12_000, 20, BLOCKS))
    stage.loop.at(60.0, stage.instance.prefill_here, job)
    stage.loop.run()
    assert job.held_tokens == 10_240
    assert job.cached_tokens == 10_240
    assert stage.names(1) == ["reserved", "started", "prefilled", "first", "finished"]
    assert stage.when("prefilled", 1) == pytest.approx(60 + (12_000 - 10_240) * TOKEN_S)
    stage.assert_nothing_held()


def test_whatever_comes_and_goes_nothing_stays_held() -> None:
    rng = random.Random(3)
    stage = Stage("decode", profile(state_blocks=3, pool_blocks=120, max_batch=6), crossing_s=0.3)
    for number in range(300):
        tree = rng.randrange(5) * 1000
        length = rng.randint(1, 30)
        blocks = tuple(tree + i if i < 6 else tree + 100 * rng.randrange(2) + i for i in range(length))
        request = arrival(number, length * 512 + rng.randint(0, 511), rng.randint(1, 600), blocks)
        at_s = rng.uniform(0, 2000)
        job = stage.at(at_s, stage.instance.serve if rng.random() < 0.5 else stage.instance.reserve, request)
        if rng.random() < 0.2:
            stage.loop.at(at_s + rng.uniform(0, 30), stage.instance.release, job)
    stage.loop.run()
    stage.assert_nothing_held()
    ended = [n for n in range(300) if "finished" in stage.names(n)]
    assert len(ended) > 220
    assert all(stage.names(n).count("finished") == 1 for n in ended)

"""Decodes in jumps against the sum of their steps."""

import random

import pytest

from prfaas.planner.simulate.job import Job
from tests.planner.simulate.fluid.stage import STEP_S, Stage, arrival, engine, profile


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_constant_batch_takes_a_step_for_each_token(batch: int) -> None:
    its_profile = profile(per_request_s=0.001)
    stage = Stage("decode", its_profile)
    for number in range(batch):
        stage.at(0.0, stage.instance.reserve, arrival(number, 100, 201))
    stage.loop.run()
    for number in range(batch):
        tpot_s = (stage.when("finished", number) - stage.when("first", number)) / 200
        assert tpot_s == pytest.approx(its_profile.decode.step_s(batch))
    stage.assert_nothing_held()


def test_contexts_that_grow_cost_what_the_steps_cost_one_by_one() -> None:
    per_token_s = 1e-5
    stage = Stage("decode", profile(per_context_token_s=per_token_s))
    stage.at(0.0, stage.instance.reserve, arrival(0, 1000, 301))
    stage.loop.run()
    assert stage.when("finished", 0) == pytest.approx(sum(STEP_S + per_token_s * (1001 + k) for k in range(300)))


def test_any_coming_and_going_is_as_step_by_step() -> None:
    rng = random.Random(5)
    per_token_s, per_request_s = 1e-6, 0.003
    comes = sorted((rng.uniform(0, 60), rng.randint(1, 4000), rng.randint(1, 300)) for _ in range(120))
    stage = Stage("decode", profile(per_context_token_s=per_token_s, per_request_s=per_request_s, max_batch=1000))
    for number, (at_s, prompt, output) in enumerate(comes):
        stage.at(at_s, stage.instance.reserve, arrival(number, prompt, output))
    stage.loop.run()
    first_s, finished_s = one_by_one(comes, per_token_s, per_request_s)
    assert [stage.when("first", number) for number in range(120)] == pytest.approx(first_s)
    assert [stage.when("finished", number) for number in range(120)] == pytest.approx(finished_s)
    stage.assert_nothing_held()


def one_by_one(
    comes: list[tuple[float, int, int]], per_token_s: float, per_request_s: float
) -> tuple[list[float], list[float]]:
    """First and last tokens, when pages are there at the end of the step in which a request comes, and its KV with it:
    it is looked at again at the same moment."""
    now_s, waiting, running = 0.0, list(range(len(comes))), dict[int, int]()
    first_s, finished_s = [0.0] * len(comes), [0.0] * len(comes)
    while waiting or running:
        if not running:
            now_s = max(now_s, comes[waiting[0]][0])
        while waiting and comes[waiting[0]][0] <= now_s + 1e-9:
            number = waiting.pop(0)
            first_s[number] = finished_s[number] = now_s
            if comes[number][2] > 1:
                running[number] = 1
        if running:
            contexts = sum(comes[number][1] + drawn for number, drawn in running.items())
            now_s += STEP_S + per_request_s * len(running) + per_token_s * contexts
        for number in list(running):
            running[number] += 1
            if running[number] == comes[number][2]:
                finished_s[number] = now_s
                del running[number]
    return first_s, finished_s


def test_places_are_taken_in_order_of_arrival() -> None:
    stage = Stage("decode", profile(), engine(max_running=2))
    for number, output in enumerate([11, 21, 6, 6]):
        stage.at(0.0, stage.instance.reserve, arrival(number, 100, output))
    stage.loop.run()
    assert stage.when("reserved", 2) == pytest.approx(10 * STEP_S)
    assert stage.when("reserved", 3) == pytest.approx(15 * STEP_S)


def test_one_who_is_released_leaves_the_others_faster() -> None:
    stage = Stage("decode", profile(per_request_s=0.01))
    jobs = [stage.at(0.0, stage.instance.reserve, arrival(number, 100, 101)) for number in range(2)]
    # Steps of two take 0.04 s; the eleventh runs when it is given up.
    stage.loop.at(0.41, stage.instance.release, jobs[1])
    stage.loop.run()
    assert stage.when("finished", 0) == pytest.approx(11 * 0.04 + 89 * 0.03)
    assert stage.names(1) == ["reserved", "first"]
    stage.assert_nothing_held()


def test_a_reservation_counts_before_it_decodes() -> None:
    stage = Stage("decode", profile(), engine(max_running=1), crossing_s=3.0)
    for number in range(2):
        stage.at(0.0, stage.instance.reserve, arrival(number, 100, 2))
    stage.loop.run()
    assert stage.when("first", 0) == pytest.approx(3.0)
    assert stage.when("reserved", 1) == pytest.approx(3.0 + STEP_S)


def test_jobs_are_told_what_was_held() -> None:
    stage = Stage("decode")
    blocks = tuple(range(8))
    stage.at(0.0, stage.instance.reserve, arrival(0, 4200, 2, blocks))
    later: Job = stage.at(9.0, stage.instance.reserve, arrival(1, 4200, 2, (*blocks[:5], 100, 101, 102)))
    stage.loop.run()
    assert later.held_tokens == 5 * 512

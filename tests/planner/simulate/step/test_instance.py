"""What a simulated instance tells its listener, and when: against times worked out by hand."""

import pytest

from prfaas.core.errors import CapacityError, ConfigError
from prfaas.planner.simulate.instance import Load
from prfaas.planner.simulate.step.instance import StepInstance
from tests.planner.simulate.step.stage import DECODE, PREFILL, Stage, arrival, profile

SERVED = ["prefill_started", "prefilled", "first_token", "finished"]


@pytest.mark.parametrize("tokens", [1, 63, 64, 1000, 8192, 50_000])
@pytest.mark.parametrize("state_pages", [0, 10])
def test_a_lone_prefill_takes_what_the_profile_says(tokens: int, state_pages: int) -> None:
    stage = Stage(profile(state_pages=state_pages), "prefill")
    job = stage.export(arrival(1, tokens), at_s=3.0)
    stage.run()
    assert stage.told(1) == ["prefill_started", "prefilled"]
    assert stage.at("prefill_started", 1) == 3.0
    assert stage.at("prefilled", 1) == pytest.approx(3.0 + PREFILL.seconds(tokens))
    assert stage.expected_s[1] == pytest.approx(PREFILL.seconds(tokens))
    assert (job.cached_tokens, job.computed_tokens) == (0, tokens)
    assert stage.empty()


def test_a_lone_answer_comes_at_the_pace_of_decode_steps() -> None:
    stage = Stage(profile())
    stage.serve(arrival(1, 1000, output=100))
    stage.run()
    assert stage.told(1) == SERVED
    assert stage.at("first_token", 1) == stage.at("prefilled", 1)
    steps = sum(DECODE.step_s(1, 1000 + i) for i in range(1, 100))
    assert stage.at("finished", 1) - stage.at("first_token", 1) == pytest.approx(steps)


def test_an_answer_of_one_token_ends_with_its_prefill() -> None:
    stage = Stage(profile())
    stage.serve(arrival(1, 1000))
    stage.run()
    assert stage.told(1) == SERVED
    assert stage.at("finished", 1) == pytest.approx(PREFILL.seconds(1000))


def test_a_batch_decodes_at_the_pace_of_its_size() -> None:
    stage = Stage(profile(state_pages=0))
    for number in range(10):
        stage.reserve(arrival(number, 1000, output=50))
    stage.run()
    steps = sum(DECODE.step_s(10, 10 * (1000 + i)) for i in range(1, 50))
    for number in range(10):
        assert stage.told(number) == ["reserved", "first_token", "finished"]
        assert stage.at("finished", number) - stage.at("first_token", number) == pytest.approx(steps)


def test_prompts_side_by_side_share_the_instance() -> None:
    stage = Stage(profile(), "prefill")
    for number in range(4):
        stage.export(arrival(number, 32_768))
    stage.run()
    ends = [stage.at("prefilled", number) for number in range(4)]
    assert max(ends) == pytest.approx(4 * PREFILL.seconds(32_768))
    assert min(ends) > 3 * PREFILL.seconds(32_768)
    assert stage.expected_s[0] == pytest.approx(4 * PREFILL.seconds(32_768))


@pytest.mark.parametrize("slowdown", [1.5, 2.0, 3.0])
def test_prefill_beside_decodes_slows_them_as_much_as_asked(slowdown: float) -> None:
    stage = Stage(profile(), slowdown=slowdown)
    for number in range(10):
        stage.reserve(arrival(number, 1000, output=1000))
    for number in range(10, 13):
        stage.serve(arrival(number, 60_000), at_s=1.0)
    stage.run()
    prefill_ends = max(stage.at("prefilled", number) for number in range(10, 13))
    decodes_end = min(stage.at("finished", number) for number in range(10))
    assert prefill_ends < decodes_end
    alone_s = sum(DECODE.step_s(10, 10 * (1000 + i)) for i in range(1, 1000))
    prefill_s = 3 * PREFILL.seconds(60_000)
    assert decodes_end - stage.at("first_token", 0) == pytest.approx(alone_s + prefill_s, rel=0.01)
    # While a second of prefill runs, decodes get a second's share of 1 / (slowdown - 1).
    borne_s = prefill_s * slowdown / (slowdown - 1)
    assert prefill_ends - 1.0 == pytest.approx(borne_s, rel=0.1)


def test_an_export_holds_its_pages_until_it_is_released() -> None:
    stage = Stage(profile(), "prefill", release_exports=False)
    job = stage.export(arrival(1, 1000))
    stage.run()
    assert stage.told(1) == ["prefill_started", "prefilled"]
    assert stage.instance.load().running_requests == 1
    assert not stage.empty()
    stage.instance.release(job)
    stage.instance.release(job)
    stage.run()
    assert stage.empty()


def test_an_import_waits_for_its_kv_and_computes_nothing() -> None:
    stage = Stage(profile(), transfer_s=7.0)
    job = stage.reserve(arrival(1, 1000, output=2), at_s=1.0)
    stage.run()
    assert stage.told(1) == ["reserved", "first_token", "finished"]
    assert stage.at("reserved", 1) == 1.0
    assert stage.at("first_token", 1) == 8.0
    assert stage.at("finished", 1) == pytest.approx(8.0 + DECODE.step_s(1, 1001))
    assert job.computed_tokens == job.held_tokens == 0
    assert stage.empty()


def test_what_comes_while_a_step_runs_is_looked_at_when_it_ends() -> None:
    stage = Stage(profile(), transfer_s=0.0)
    stage.serve(arrival(1, 1000, output=2))
    stage.reserve(arrival(2, 1000, output=2), at_s=0.1)
    stage.run()
    assert stage.at("reserved", 2) == stage.at("prefilled", 1) == pytest.approx(PREFILL.seconds(1000))


def test_a_prompt_whose_kv_does_not_come_is_prefilled_here() -> None:
    stage = Stage(profile(), transfer_s=None)
    job = stage.reserve(arrival(1, 1000, output=3))
    stage.loop.at(5.0, stage.instance.prefill_here, job)
    stage.run()
    assert stage.told(1) == ["reserved", *SERVED]
    assert stage.at("prefill_started", 1) == 5.0
    assert stage.at("first_token", 1) == pytest.approx(5.0 + PREFILL.seconds(1000))
    assert job.computed_tokens == 1000
    assert stage.empty()


def test_requests_beyond_the_slots_wait_in_order() -> None:
    stage = Stage(profile(), running=2)
    for number in range(4):
        stage.reserve(arrival(number, 100, output=10))
    loads: list[Load] = []
    stage.loop.at(0.6, lambda: loads.append(stage.instance.load()))
    stage.run()
    assert (loads[0].waiting_requests, loads[0].running_requests) == (2, 2)
    assert [stage.at("reserved", number) for number in (0, 1)] == [0.0, 0.0]
    assert stage.at("reserved", 2) == stage.at("finished", 0) > 0.5
    assert stage.instance.max_running == 2


def test_the_load_is_what_is_still_to_be_prefilled() -> None:
    stage = Stage(profile(), "prefill", running=1)
    stage.export(arrival(1, 16_384))
    stage.export(arrival(2, 1000))
    seen: list[int] = []
    stage.loop.at(0.001, lambda: seen.append(stage.instance.load().waiting_tokens))
    after_a_step_s = PREFILL.overhead + PREFILL.work(0, 8192)
    stage.loop.at(after_a_step_s + 0.001, lambda: seen.append(stage.instance.load().waiting_tokens))
    stage.run()
    assert seen == [17_384, 9192]
    assert stage.instance.max_running == 1


def test_a_full_pool_preempts_the_last_to_come_and_loses_nobody() -> None:
    # Three prompts fit, and not their answers: 3 * (7 pages + 1 state) of 32, growing by 5 each.
    stage = Stage(profile(pages=32, state_pages=1))
    jobs = [stage.serve(arrival(number, 440, output=300)) for number in range(3)]
    stage.run()
    for job in jobs:
        number = job.arrival.number
        assert stage.told(number) == SERVED
    assert stage.at("finished", 0) < stage.at("finished", 2)
    assert sum(job.computed_tokens for job in jobs) > 3 * 440
    assert stage.empty()


@pytest.mark.parametrize("at_s", [0.0, 0.2, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("way", ["serve", "export", "reserve"])
def test_a_release_ends_a_job_in_any_phase(way: str, at_s: float) -> None:
    stage = Stage(profile(), transfer_s=0.9, release_exports=False)
    job = {"serve": stage.serve, "export": stage.export, "reserve": stage.reserve}[way](arrival(1, 20_000, output=50))
    other = stage.serve(arrival(2, 1000, output=5))
    stage.loop.at(at_s, stage.release, job)
    stage.run()
    assert all(t <= at_s for t, _, number in stage.events if number == 1)
    assert stage.told(other.arrival.number) == SERVED
    assert stage.empty()


def test_a_job_may_come_back_after_its_release() -> None:
    stage = Stage(profile(), transfer_s=1.0)
    job = stage.reserve(arrival(1, 1000, output=2))
    stage.loop.at(0.5, stage.release, job)
    stage.serve(arrival(1, 1000, output=2), at_s=0.5)
    stage.run()
    assert stage.told(1) == ["reserved", *SERVED]


def test_a_request_larger_than_the_memory_is_an_error_that_says_what_to_change() -> None:
    stage = Stage(profile(pages=100))
    stage.serve(arrival(7, 6400))
    with pytest.raises(CapacityError, match=r"request 7 of 6400 prompt .* raise hardware\.cache_gib"):
        stage.run()


def test_memory_without_room_for_states_is_an_error_that_says_what_to_change() -> None:
    with pytest.raises(ConfigError, match=r"raise hardware\.cache_gib"):
        Stage(profile(pages=10, state_pages=10))


def test_a_step_must_have_a_token_for_every_decode() -> None:
    with pytest.raises(ConfigError, match=r"engine\.step_tokens is 40.* raise engine\.step_tokens"):
        Stage(profile(), step_tokens=40)
    assert isinstance(Stage(profile(), step_tokens=41).instance, StepInstance)

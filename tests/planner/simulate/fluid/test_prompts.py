"""What prompts take on one instance: alone, one after another, beside decodes."""

import pytest

from prfaas.core.errors import CapacityError, ConfigError
from tests.planner.simulate.fluid.stage import STEP_S, TOKEN_S, Stage, arrival, engine, profile


@pytest.mark.parametrize("tokens", [1, 63, 64, 5000, 8192, 8193, 40_000])
def test_a_prompt_alone_takes_what_the_profile_says(tokens: int) -> None:
    its_profile = profile(overhead_s=0.4, per_token2_s=1e-9)
    stage = Stage("prefill", its_profile)
    stage.at(1.0, stage.instance.export, arrival(0, tokens))
    stage.loop.run()
    assert stage.when("started", 0) == 1.0
    assert stage.when("prefilled", 0) == pytest.approx(1.0 + its_profile.prefill.seconds(tokens))
    assert stage.expected_s[0] == pytest.approx(its_profile.prefill.seconds(tokens))
    assert stage.jobs[0].computed_tokens == tokens
    stage.assert_nothing_held()


def test_who_comes_while_a_step_runs_waits_for_its_end_and_then_has_an_equal_share() -> None:
    stage = Stage()
    stage.at(0.0, stage.instance.export, arrival(0, 20_000))
    stage.at(0.1, stage.instance.export, arrival(1, 4096))
    stage.loop.run()
    assert stage.when("started", 1) == pytest.approx(8192 * TOKEN_S)
    assert stage.when("prefilled", 1) == pytest.approx(2 * 8192 * TOKEN_S)
    assert stage.expected_s[1] == pytest.approx(2 * 4096 * TOKEN_S)
    assert stage.when("prefilled", 0) == pytest.approx(24_096 * TOKEN_S)


def test_a_step_carries_four_prompts_those_first_that_went_without() -> None:
    stage = Stage("prefill", profile(), engine(step_tokens=4096))
    for number in range(6):
        stage.at(0.0, stage.instance.export, arrival(number, 2048))
    stage.loop.run()
    started_s = [stage.when("started", number) for number in range(6)]
    assert started_s == pytest.approx([0.0, 0.0, 0.0, 0.0, 4.096, 4.096])
    ended_s = [stage.when("prefilled", number) for number in range(6)]
    # Step 1: 0-3; 2: 4, 5, 0, 1, which ends 0 and 1; 3: 2-5.
    assert ended_s == pytest.approx([8.192, 8.192, 12.288, 12.288, 12.288, 12.288])


def test_exports_count_until_they_are_released() -> None:
    stage = Stage("prefill", profile(), engine(max_running=2), hold=True)
    jobs = [stage.at(0.0, stage.instance.export, arrival(number, 1000)) for number in range(3)]
    stage.loop.at(10.0, stage.instance.release, jobs[0])
    stage.loop.run()
    assert stage.when("started", 2) == pytest.approx(10.0)
    for job in jobs:
        stage.instance.release(job)
    stage.assert_nothing_held()


@pytest.mark.parametrize("slowdown", [1.5, 2.0, 4.0])
def test_beside_decodes_prompts_have_what_the_slowdown_leaves_them(slowdown: float) -> None:
    # A step bears 64-token pages exactly, so that nothing is lost to rounding.
    step_s = 64 * TOKEN_S * 2
    stage = Stage("decode", profile(step_s=step_s), engine(slowdown=slowdown))
    stage.at(0.0, stage.instance.reserve, arrival(0, 100, 5000))
    stage.at(1.0, stage.instance.serve, arrival(1, 10_240, 1))
    stage.loop.run()
    share = (slowdown - 1) / slowdown
    # One step of seventeen is the decodes' alone.
    assert stage.when("prefilled", 1) - stage.when("started", 1) == pytest.approx(10_240 * TOKEN_S / share, rel=0.07)
    slowed_s = stage.when("finished", 0) - 4999 * step_s
    assert slowed_s == pytest.approx(10_240 * TOKEN_S, abs=2 * slowdown * step_s)
    stage.assert_nothing_held()


def test_a_prompt_beside_decodes_that_bear_nothing_ends_all_the_same() -> None:
    stage = Stage("decode", profile(), engine(slowdown=1.0))
    stage.at(0.0, stage.instance.reserve, arrival(0, 100, 20_000))
    stage.at(1.0, stage.instance.serve, arrival(1, 512, 1))
    stage.loop.run()
    # 32 tokens in every 65 steps.
    assert stage.when("prefilled", 1) - 1.0 == pytest.approx(512 / 32 * 65 * STEP_S, rel=0.1)


def test_decodes_that_begin_while_prompts_have_the_instance_wait_for_the_step() -> None:
    stage = Stage("decode", profile(), hold=True)
    waiting = stage.at(0.0, stage.instance.reserve, arrival(0, 100, 3))
    stage.at(0.1, stage.instance.serve, arrival(1, 4000, 1))
    stage.loop.at(0.2, stage.instance.begin_decode, waiting)
    stage.loop.run()
    assert stage.when("first", 0) == pytest.approx(4.1)
    assert stage.when("finished", 0) == pytest.approx(4.1 + 2 * STEP_S)


def test_a_prompt_that_never_fits_is_refused_with_what_to_change() -> None:
    stage = Stage("decode", profile(pool_blocks=4, state_blocks=1))
    for what in (stage.instance.serve, stage.instance.reserve):
        stage.at(0.0, what, arrival(len(stage.jobs), 1000, 600))
        with pytest.raises(CapacityError, match=r"raise hardware.cache_gib in the profile, or lower"):
            stage.loop.run()
    stage.at(0.0, stage.instance.serve, arrival(2, 1000, 500))
    stage.loop.run()
    assert "finished" in stage.names(2)


def test_a_profile_without_room_for_a_request_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"raise hardware\.cache_gib"):
        Stage("decode", profile(pool_blocks=2, state_blocks=2))


def test_load_tells_what_waits() -> None:
    stage = Stage("prefill", profile(pool_blocks=100), engine(max_running=1))
    for number in range(3):
        stage.at(0.0, stage.instance.export, arrival(number, 10_000))
    loads = []
    stage.loop.at(9.0, lambda: loads.append(stage.instance.load()))
    stage.loop.run()
    (load,) = loads
    assert (load.waiting_tokens, load.waiting_requests, load.running_requests) == (20_000 + 10_000 - 8192, 2, 1)
    # Twenty blocks of 512 tokens, in pages of 64.
    assert load.pages_free == (100 - 20) * 8

"""Who is computed when many want to be: decodes before prompts, and no prompt behind the whole of another."""

import pytest

from prfaas.core.ids import RequestId
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.sequence import Mode, Phase
from tests.scheduler.fake_instance import PAGE, FakeInstance


def steps_until_first_token(instance: FakeInstance, name: str, limit: int = 200) -> int:
    for step in range(1, limit):
        instance.step()
        if instance.answers[name]:
            return step
    raise AssertionError(f"{name} drew nothing in {limit} steps")


def test_a_short_prompt_does_not_wait_for_a_long_one_before_it() -> None:
    instance = FakeInstance(pages=100, step_tokens=32)
    instance.add("long", 300)
    instance.step()
    instance.add("short", 16)
    assert steps_until_first_token(instance, "short") == 1
    assert instance.get("long").computed_tokens == 48


@pytest.mark.parametrize("step_tokens", [4, 8, 32])
def test_every_prompt_progresses_in_bounded_steps(step_tokens: int) -> None:
    instance = FakeInstance(pages=400, slots=8, step_tokens=step_tokens)
    for i in range(7):
        instance.add(f"long{i}", 200)
    instance.step()
    instance.add("short", 4)
    places = min(4, step_tokens // PAGE)
    assert steps_until_first_token(instance, "short") <= 2 * 8 // places
    for _ in range(8):
        instance.step()
    assert min(instance.get(f"long{i}").computed_tokens for i in range(7)) > 0


def test_newcomers_do_not_hold_up_a_long_prompt() -> None:
    instance = FakeInstance(pages=100, slots=6, step_tokens=8)
    instance.add("long", 80)
    for step in range(200):
        for i in range(2):
            instance.add(f"new{step}.{i}", 4)
        instance.step()
        if "long" in instance.ended:
            return
    raise AssertionError("the long prompt starved")


def test_an_import_that_fails_takes_its_turn_with_the_others() -> None:
    instance = FakeInstance(pages=100, slots=6, step_tokens=8)
    for i in range(4):
        instance.add(f"long{i}", 80)
    instance.add("i", PAGE, mode=Mode.IMPORT)
    for _ in range(5):
        instance.step()
    instance.scheduler.prefill_here(RequestId("i"))
    assert steps_until_first_token(instance, "i") <= 5


def seconds(plan: StepPlan) -> float:
    """Of a machine where a decode step takes 10 ms and a prefill token 0.5 ms: 20 tokens double it."""
    return 10e-3 * bool(plan.decodes) + 0.5e-3 * plan.num_prefill_tokens


def test_prefill_beside_decodes_is_paced_and_alone_it_is_not() -> None:
    instance = FakeInstance(pages=1000, step_tokens=512)
    instance.add("first", 500, max_tokens=70)
    instance.add("long", 3000)
    taken = []
    while "first" not in instance.ended:
        plan = instance.step()
        assert plan is not None
        instance.scheduler.observe(plan, seconds(plan))
        taken.append((len(plan.decodes), plan.num_prefill_tokens))
    beside = [tokens for decodes, tokens in taken if decodes]
    assert [tokens for decodes, tokens in taken if not decodes] == [512, 512]
    assert max(beside[10:]) <= 32
    assert set(beside[10:]) == {0, 20}
    assert 15 <= sum(beside[10:]) / len(beside[10:]) <= 20
    plan = instance.step()
    assert plan is not None
    assert plan.num_prefill_tokens == 512


def test_decodes_run_in_every_step_whatever_is_prefilled() -> None:
    instance = FakeInstance(pages=200, step_tokens=16)
    instance.add("d", 1, max_tokens=30)
    instance.step()
    assert instance.get("d").phase is Phase.DECODE
    for i in range(3):
        instance.add(f"p{i}", 200)
    for _ in range(29):
        plan = instance.step()
        assert plan is not None
        assert [chunk.sequence.request_id for chunk in plan.decodes] == ["d"]
        assert plan.prefills
    assert "d" in instance.ended

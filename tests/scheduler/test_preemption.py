"""Growth page by page, who gives way when none is left, and how it comes back."""

import pytest

from prfaas.core.request import FinishReason
from prfaas.scheduler.sequence import Mode, Phase
from tests.scheduler.fake_instance import PAGE, FakeInstance, request, whole_answer


def run(instance: FakeInstance, limit: int = 500) -> None:
    """To the end of everything."""
    for _ in range(limit):
        if not (instance.scheduler.num_active or instance.scheduler.num_waiting):
            return
        instance.step()
    raise AssertionError("the scheduler never came to rest")


def test_a_request_holds_only_the_pages_that_it_has_filled() -> None:
    instance = FakeInstance(pages=8)
    instance.add("a", 3, max_tokens=7)
    held = []
    while instance.scheduler.num_active or instance.scheduler.num_waiting:
        instance.step()
        held.append(instance.pages.used)
    assert held == [1, 1, 2, 2, 2, 2, 0]
    assert instance.answers["a"] == whole_answer(request("a", 3, 7, ignore_eos=True))


def test_max_tokens_does_not_count_against_the_pool_before_it_is_used() -> None:
    instance = FakeInstance(pages=16, slots=4)
    for name in "abcd":
        instance.add(name, 4, max_tokens=61)
    assert [s.request_id for s in instance.scheduler.admit()] == ["a", "b", "c", "d"]


def test_admission_leaves_a_page_for_those_that_grow_but_not_for_one_alone() -> None:
    instance = FakeInstance(pages=4)
    instance.add("a", 8, max_tokens=2)
    instance.add("b", 8)
    assert [s.request_id for s in instance.scheduler.admit()] == ["a"]
    instance.release("a")
    instance.add("whole pool", 16)
    assert [s.request_id for s in instance.scheduler.admit()] == ["b"]
    instance.release("b")
    assert [s.request_id for s in instance.scheduler.admit()] == ["whole pool"]


def test_an_export_needs_no_watermark() -> None:
    instance = FakeInstance(pages=4)
    instance.add("e", 8, mode=Mode.EXPORT)
    instance.add("a", 8)
    assert len(instance.scheduler.admit()) == 2


def test_the_last_to_arrive_gives_way_and_goes_on_where_it_was() -> None:
    instance = FakeInstance(pages=5, step_tokens=16)
    instance.add("a", 7, max_tokens=8)
    instance.add("b", 4, max_tokens=9)
    instance.add("c", 20)
    preempted = []
    for _ in range(40):
        plan = instance.step()
        preempted += [s.request_id for s in plan.preempted] if plan else []
    assert preempted == ["b"]
    for name, prompt, max_tokens in [("a", 7, 8), ("b", 4, 9), ("c", 20, 1)]:
        assert instance.answers[name] == whole_answer(request(name, prompt, max_tokens, ignore_eos=True))
        assert instance.first_draws[name] == 1
    assert list(instance.ended) == ["a", "b", "c"]
    assert instance.empty()


def test_a_resumption_is_an_admission_that_can_be_told_from_the_first() -> None:
    instance = FakeInstance(pages=5, step_tokens=16)
    instance.add("a", 7, max_tokens=10)
    instance.add("b", 4, max_tokens=10)
    while not instance.preemptions:
        instance.step()
    sequence = instance.get("b")
    drawn = len(sequence.output_token_ids)
    assert (sequence.phase, sequence.preemptions) == (Phase.WAITING, 1)
    assert drawn > 1
    assert instance.scheduler.waiting_tokens == 4 + drawn
    instance.release("a")
    assert instance.scheduler.admit() == [sequence]
    assert sequence.phase is Phase.PREFILL
    plan = instance.step()
    assert plan is not None
    [chunk] = plan.prefills
    assert (chunk.start, chunk.end) == (0, 4 + drawn)
    assert (chunk.samples, chunk.completes_prompt, chunk.draws_first_token) == (True, True, False)
    run(instance)


def test_a_long_resumption_is_prefilled_in_chunks_of_which_only_the_last_draws() -> None:
    instance = FakeInstance(pages=9, step_tokens=8)
    instance.add("a", 9, max_tokens=24)
    instance.add("b", 9, max_tokens=20)
    while not instance.preemptions:
        instance.step()
    instance.release("a")
    seen = []
    while instance.get("b").phase is not Phase.DECODE:
        plan = instance.step()
        assert plan is not None
        seen += [(c.end, c.completes_prompt, c.samples) for c in plan.prefills]
    total = instance.get("b").num_tokens - 1
    assert total == 17
    assert seen == [(8, False, False), (16, True, False), (total, False, True)]
    run(instance)
    assert instance.answers["b"] == whole_answer(request("b", 9, 20, ignore_eos=True))


def until_a_needs_the_page_that_b_would_have_to_give(mode: Mode) -> FakeInstance:
    """`a` decodes, `b` is in the middle of its prompt, one token a step; the pool has just run dry."""
    instance = FakeInstance(pages=6, step_tokens=2)
    instance.add("a", 4, max_tokens=14)
    instance.add("b", 16, max_tokens=3, mode=mode)
    while instance.pages.free or instance.get("a").computed_tokens < 8:
        instance.step()
    assert instance.get("b").phase is Phase.PREFILL
    assert instance.get("b").computed_tokens > 0
    instance.step()
    return instance


def test_a_request_preempted_in_its_prompt_draws_its_first_token_once() -> None:
    instance = until_a_needs_the_page_that_b_would_have_to_give(Mode.SERVE)
    assert instance.preemptions == {"b": 1}
    run(instance)
    assert instance.first_draws == {"a": 1, "b": 1}
    assert instance.answers["b"] == whole_answer(request("b", 16, 3, ignore_eos=True))


def test_an_export_in_its_prompt_goes_on_while_the_decode_gives_way() -> None:
    instance = until_a_needs_the_page_that_b_would_have_to_give(Mode.EXPORT)
    assert instance.preemptions == {"a": 1}
    while instance.get("b").phase is not Phase.HELD:
        instance.step()
    instance.release("b")
    run(instance)
    assert instance.answers["a"] == whole_answer(request("a", 4, 14, ignore_eos=True))


def test_an_import_that_was_preempted_is_computed_here() -> None:
    instance = FakeInstance(pages=5, step_tokens=16)
    instance.add("a", 7, max_tokens=10)
    instance.add("i", 4, max_tokens=10, mode=Mode.IMPORT)
    instance.step()
    instance.deliver("i")
    run(instance)
    assert instance.preemptions == {"i": 1}
    assert instance.first_draws["i"] == 0
    assert instance.answers["i"] == whole_answer(request("i", 4, 10, ignore_eos=True))


def test_exports_and_reservations_are_never_preempted_so_the_decode_itself_gives_way() -> None:
    instance = FakeInstance(pages=4, step_tokens=16)
    instance.add("a", 4, max_tokens=9)
    instance.add("e", 4, mode=Mode.EXPORT)
    instance.add("i", 4, mode=Mode.IMPORT)
    while not instance.preemptions:
        instance.step()
    assert instance.preemptions == {"a": 1}
    assert (instance.get("e").phase, instance.get("i").phase) == (Phase.HELD, Phase.RESERVED)
    assert instance.step() is None
    instance.deliver("i")
    assert instance.ended == {"i": FinishReason.LENGTH}
    while "a" not in instance.ended:
        instance.step()
    assert instance.answers["a"] == whole_answer(request("a", 4, 9, ignore_eos=True))
    instance.release("e")
    assert instance.empty()


def test_a_plan_may_consist_of_a_preemption_alone() -> None:
    instance = FakeInstance(pages=3)
    instance.add("a", 4, max_tokens=9)
    instance.add("e", 4, mode=Mode.EXPORT)
    plan = None
    while not instance.preemptions:
        plan = instance.step()
    assert plan is not None
    assert (plan.chunks, plan.preempted) == ((), (instance.get("a"),))
    assert instance.step() is None
    instance.release("e")
    run(instance)
    assert instance.empty()


@pytest.mark.parametrize("when", ["preempted", "resumed"])
def test_what_is_cancelled_after_a_preemption_leaves_nothing_behind(when: str) -> None:
    instance = FakeInstance(pages=5, step_tokens=16)
    instance.add("a", 7, max_tokens=10)
    instance.add("b", 4, max_tokens=10)
    while not instance.preemptions:
        instance.step()
    if when == "resumed":
        instance.release("a")
        instance.step()
        assert instance.get("b").phase is Phase.DECODE
    instance.release("b")
    run(instance)
    assert instance.empty()


def test_preempted_requests_keep_their_order_of_arrival() -> None:
    instance = FakeInstance(pages=6, slots=3, step_tokens=24)
    for name in "abcd":
        instance.add(name, PAGE, max_tokens=20)
    waiting: list[str] = []
    while len(waiting) < 3:
        instance.step()
        waiting = [s.request_id for s in instance.scheduler._waiting]
    assert waiting == ["b", "c", "d"]
    run(instance)
    assert list(instance.ended) == ["a", "b", "c", "d"]

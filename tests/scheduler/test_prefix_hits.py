"""What is cached of a prompt is not computed again, and what others hold is never written."""

import pytest

from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason
from prfaas.scheduler.sequence import Mode, Phase
from tests.scheduler.fake_instance import PAGE, FakeInstance, request, whole_answer

HYBRID = 2
"""State pages."""


def run(instance: FakeInstance) -> None:
    for _ in range(500):
        if not (instance.scheduler.num_active or instance.scheduler.num_waiting):
            return
        instance.step()
    raise AssertionError("the scheduler never came to rest")


def tokens(shared: int, own: int, kind: int) -> tuple[int, ...]:
    return tuple(range(shared)) + tuple(range(1000 * kind, 1000 * kind + own))


@pytest.mark.parametrize("state_pages", [0, HYBRID])
@pytest.mark.parametrize(
    ("first", "second", "reused"),
    [
        (tokens(17, 0, 0), tokens(17, 0, 0), 16),  # the same prompt
        (tokens(16, 0, 0), tokens(16, 0, 0), 12),  # one token must be computed
        (tokens(17, 0, 0), tokens(17, 9, 1), 16),  # it goes on
        (tokens(16, 1, 1), tokens(16, 5, 2), 16),  # they part where a block ends
        (tokens(3, 9, 1), tokens(3, 9, 2), 0),  # they part inside the first block
        (tokens(4, 1, 0), tokens(4, 0, 0), 0),  # nothing but the token that must be computed
    ],
)
def test_a_second_prompt_reuses_whole_blocks_of_the_first(
    state_pages: int, first: tuple[int, ...], second: tuple[int, ...], reused: int
) -> None:
    instance = FakeInstance(pages=32, cached=True, state_pages=state_pages)
    instance.add("a", first, 3)
    run(instance)
    instance.add("b", second, 3)
    run(instance)
    assert instance.reused == {"a": 0, "b": reused}
    for name, prompt in (("a", first), ("b", second)):
        assert instance.answers[name] == whole_answer(request(name, prompt, 3, ignore_eos=True))
    assert instance.empty()


def test_where_prompts_part_a_snapshot_is_left_for_the_third_that_comes_there() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID)
    for kind, name in enumerate("abc", start=1):
        instance.add(name, tokens(2 * PAGE, 9, kind))
        run(instance)
    assert instance.reused == {"a": 0, "b": 0, "c": 2 * PAGE}


def test_without_states_the_second_reuses_what_the_first_has_in_common_with_it() -> None:
    instance = FakeInstance(pages=64, cached=True)
    for kind, name in enumerate("ab", start=1):
        instance.add(name, tokens(2 * PAGE + 1, 9, kind))
        run(instance)
    assert instance.reused == {"a": 0, "b": 2 * PAGE}


def test_a_long_prompt_leaves_snapshots_on_its_way() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID, snapshot_every=2 * PAGE)
    instance.add("a", tokens(5 * PAGE + 1, 0, 0))
    run(instance)
    instance.add("b", tokens(4 * PAGE, 3, 1))
    run(instance)
    assert instance.reused["b"] == 4 * PAGE


@pytest.mark.parametrize("mode", [Mode.SERVE, Mode.IMPORT])
def test_the_next_turn_begins_with_this_ones_answer(mode: Mode) -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID, answer_every=2 * PAGE)
    prompt = tokens(10, 0, 0)
    instance.add("a", prompt, 23, mode)
    if mode is Mode.IMPORT:
        instance.step()
        instance.deliver("a")
    run(instance)
    # Prompt and answer had states up to 32 tokens, from where nothing was decoded any more. Snapshots of the prompt
    # that was computed here come after 8, 16 and 24 tokens, of the one from elsewhere after 12, 20 and 28.
    turn = (*prompt, *instance.answers["a"])
    instance.add("b", (*turn, *tokens(0, 5, 7)), 2)
    run(instance)
    assert instance.reused["b"] == {Mode.SERVE: 24, Mode.IMPORT: 28}[mode]
    assert instance.cache.snapshots <= 4
    assert instance.answers["b"] == whole_answer(request("b", (*turn, *tokens(0, 5, 7)), 2, ignore_eos=True))
    assert instance.empty()


def test_with_little_memory_answers_leave_no_snapshots() -> None:
    instance = FakeInstance(pages=13, cached=True, state_pages=HYBRID, answer_every=PAGE)
    instance.add("a", tokens(9, 0, 0), 30)
    while instance.get("a").computed_tokens < 35:
        instance.step()
    assert instance.cache.available < 13 // 4 + HYBRID
    assert instance.get("a").last_snapshot < 32
    run(instance)


def test_tenants_with_different_salts_never_share() -> None:
    instance = FakeInstance(pages=64, cached=True)
    for name, salt in (("a", "x"), ("b", "y"), ("c", "x")):
        instance.add(name, 17, salt=salt)
        run(instance)
    assert instance.reused == {"a": 0, "b": 0, "c": 16}


@pytest.mark.parametrize("state_pages", [0, HYBRID])
def test_equal_prompts_at_once_are_computed_once(state_pages: int) -> None:
    instance = FakeInstance(pages=64, slots=8, cached=True, state_pages=state_pages)
    for name in "abcd":
        instance.add(name, 21, 4)
    run(instance)
    assert sorted(instance.reused.values()) == [0, 20, 20, 20]
    assert len({tuple(answer) for answer in instance.answers.values()}) == 1


def test_one_that_waits_for_another_is_not_held_up_when_that_one_is_given_up() -> None:
    instance = FakeInstance(pages=64, cached=True)
    instance.add("a", 21, 4)
    instance.add("b", 21, 4)
    instance.step()
    assert instance.get("b").phase is Phase.WAITING
    instance.release("a")
    run(instance)
    assert instance.answers["b"] == whole_answer(request("b", 21, 4, ignore_eos=True))


def test_what_is_cached_makes_room_for_what_runs() -> None:
    instance = FakeInstance(pages=8, cached=True)
    instance.add("a", tokens(0, 6 * PAGE, 1))
    run(instance)
    assert instance.cache.idle_pages == 6
    instance.add("b", tokens(0, 8 * PAGE, 2))
    run(instance)
    assert instance.ended["b"] is FinishReason.LENGTH
    assert instance.reused["b"] == 0


def test_a_resumption_finds_what_it_had_computed_unless_it_was_needed() -> None:
    instance = FakeInstance(pages=12, step_tokens=32, cached=True)
    instance.add("a", tokens(0, 16, 1), 26)
    instance.add("b", tokens(0, 16, 2), 26)
    run(instance)
    assert instance.preemptions["b"] >= 1
    for name, kind in (("a", 1), ("b", 2)):
        assert instance.answers[name] == whole_answer(request(name, tokens(0, 16, kind), 26, ignore_eos=True))


@pytest.mark.parametrize("state_pages", [0, HYBRID])
def test_an_import_needs_only_what_is_not_held(state_pages: int) -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=state_pages)
    for name, held in (("a", 0), ("b", 16)):
        instance.add(name, tokens(16, 6, 3) if name == "b" else tokens(17, 0, 0), 3, Mode.IMPORT)
        assert instance.step() is None
        assert instance.get(name).held_tokens == held
        instance.deliver(name)
        run(instance)
    assert instance.answers["b"] == whole_answer(request("b", tokens(16, 6, 3), 3, ignore_eos=True))


@pytest.mark.parametrize("state_pages", [0, HYBRID])
def test_an_import_that_fails_is_computed_without_touching_what_it_held(state_pages: int) -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=state_pages)
    instance.add("a", 17, 2)
    run(instance)
    instance.add("b", 25, 2, Mode.IMPORT)
    instance.add("after", 2, 2)
    instance.step()
    instance.scheduler.prefill_here(RequestId("b"))
    instance.check_memory()
    run(instance)
    assert instance.reused["b"] == 16
    assert instance.answers["b"] == whole_answer(request("b", 25, 2, ignore_eos=True))
    assert instance.empty()


@pytest.mark.parametrize(("arrived", "kept"), [(24, 24), (23, 20), (29, 28), (32, 28)])
def test_an_import_that_fails_goes_on_behind_what_arrived_of_it(arrived: int, kept: int) -> None:
    """In whole pages, and with at least one token to compute."""
    instance = FakeInstance(pages=32, cached=True)
    instance.add("a", 17, 2)
    run(instance)
    instance.add("b", 32, 2, Mode.IMPORT)
    instance.step()
    pages = instance.get("b").pages
    assert instance.fail("b", arrived) == range(16, kept)
    assert instance.get("b").pages == pages
    plan = instance.step()
    assert plan is not None
    assert plan.chunks[0].start == kept
    assert instance.get("b").verified_tokens == kept - 16
    run(instance)
    assert instance.answers["b"] == whole_answer(request("b", 32, 2, ignore_eos=True))
    instance.add("c", 33, 2)
    run(instance)
    assert instance.reused["c"] == 32
    assert instance.empty()


def test_with_states_what_arrived_of_a_failed_import_is_of_no_use() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID)
    instance.add("b", 25, 2, Mode.IMPORT)
    instance.step()
    assert instance.fail("b", 24) is None
    run(instance)
    assert instance.answers["b"] == whole_answer(request("b", 25, 2, ignore_eos=True))


def test_less_than_is_cached_by_now_is_of_no_use() -> None:
    instance = FakeInstance(pages=64, cached=True)
    instance.add("b", 25, 2, Mode.IMPORT)
    instance.step()
    instance.add("a", 17, 2)
    while "a" not in instance.ended:
        instance.step()
    assert instance.fail("b", 12) is None
    instance.step()
    assert instance.reused["b"] == 16


def test_what_was_rounded_on_its_way_is_used_and_remembered() -> None:
    instance = FakeInstance(pages=32, cached=True)
    instance.add("b", 25, 2, Mode.IMPORT)
    instance.step()
    assert instance.fail("b", 21, lossy=True) == range(20)
    run(instance)
    instance.add("c", 33, 2)
    instance.step()
    assert (instance.get("c").held_tokens, instance.get("c").lossy_tokens) == (24, 20)


def test_what_proved_wrong_is_not_given_to_others() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID, step_tokens=64)
    instance.add("a", 17, 2)
    run(instance)
    instance.add("b", 33, 20)
    while not instance.answers["b"]:
        instance.step()
    instance.scheduler.invalidate(RequestId("b"))
    instance.release("b")
    assert instance.cache.blocks == 0  # nor what b had found: nobody knows where it went wrong
    instance.add("c", 33, 2)
    run(instance)
    assert instance.reused["c"] == 0


def test_who_builds_on_what_proved_wrong_goes_on_alone() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID, step_tokens=64)
    instance.add("a", 17, 20)
    while not instance.answers["a"]:
        instance.step()
    instance.add("b", 33, 20)
    while not instance.answers["b"]:
        instance.step()
    assert instance.reused["b"] == 16
    instance.scheduler.invalidate(RequestId("a"))
    instance.release("a")
    instance.add("c", 17, 2)  # brings the same blocks again, which b does not hold
    run(instance)
    assert instance.reused["c"] == 0
    assert instance.answers["b"] == whole_answer(request("b", 33, 20, ignore_eos=True))
    assert instance.empty()


def test_one_that_shared_no_more_can_be_resumed_and_share_again() -> None:
    instance = FakeInstance(pages=21, cached=True, state_pages=1, step_tokens=64)
    instance.add("older", tokens(0, 9, 1), 40)
    instance.add("wrong", 17, 30)
    while not instance.answers["wrong"]:
        instance.step()
    instance.add("b", 17, 30)
    while not instance.answers["b"]:
        instance.step()
    instance.scheduler.invalidate(RequestId("wrong"))
    instance.release("wrong")
    assert instance.get("b").private
    while not instance.preemptions["b"]:
        instance.step()
    so_far = instance.get("b").tokens(0, instance.get("b").num_tokens)
    instance.add("c", (*so_far, 1, 2, 3), 2)
    run(instance)
    assert instance.answers["b"] == whole_answer(request("b", 17, 30, ignore_eos=True))
    assert instance.reused["c"] >= len(so_far) // PAGE * PAGE - PAGE
    assert instance.empty()


def test_a_prompt_that_is_on_its_way_from_a_slower_tier_waits_and_lets_others_pass() -> None:
    instance = FakeInstance(pages=64, cached=True)
    instance.add("a", 17, 2)
    instance.add("b", 3, 2)
    instance.scheduler.waiting_for(RequestId("a"), True)
    run_until_b_ends = [instance.step() for _ in range(4)]
    assert run_until_b_ends[-1] is None
    assert list(instance.ended) == ["b"]
    instance.scheduler.waiting_for(RequestId("a"), False)
    run(instance)
    assert list(instance.ended) == ["b", "a"]


def test_with_little_room_a_snapshot_is_left_out() -> None:
    instance = FakeInstance(pages=7, cached=True, state_pages=HYBRID)
    instance.add("a", 5 * PAGE)
    run(instance)
    instance.add("b", 5 * PAGE)
    run(instance)
    assert instance.reused == {"a": 0, "b": 0}
    assert instance.cache.skipped_snapshots == 2
    assert instance.empty()

"""Admission, modes, chunks and the end of requests, with memory to spare."""

from typing import Any

import pytest

from prfaas.core.errors import CapacityError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase
from tests.scheduler.fake_instance import EOS, FakeInstance, next_token, request, whole_answer


def chunks(plan: StepPlan | None) -> list[tuple[str, int, int]]:
    assert plan is not None
    return [(chunk.sequence.request_id, chunk.start, chunk.end) for chunk in plan.chunks]


def commit_eos(scheduler: Scheduler) -> list[FinishReason | None]:
    scheduler.admit()
    plan = scheduler.plan()
    assert plan is not None
    return [reason for _, reason in scheduler.commit(plan, {c.sequence.request_id: EOS for c in plan.chunks})]


def test_a_long_prompt_is_cut_at_page_boundaries_and_decodes_go_first() -> None:
    instance = FakeInstance(step_tokens=10)
    instance.add("short", 3, max_tokens=9)
    assert chunks(instance.step()) == [("short", 0, 3)]
    instance.add("long", 13)
    assert chunks(instance.step()) == [("short", 3, 4), ("long", 0, 8)]
    assert chunks(instance.step()) == [("short", 4, 5), ("long", 8, 13)]
    assert instance.ended == {"long": FinishReason.LENGTH}


def test_eos_stops_unless_ignored() -> None:
    scheduler = FakeInstance().scheduler
    scheduler.add(request("a", 2, 5), Mode.SERVE)
    assert commit_eos(scheduler) == [FinishReason.STOP]
    scheduler.add(request("b", 2, 2, ignore_eos=True), Mode.SERVE)
    assert commit_eos(scheduler) == [None]
    assert commit_eos(scheduler) == [FinishReason.LENGTH]


def test_stop_tokens_stop_even_where_eos_is_ignored() -> None:
    scheduler = FakeInstance().scheduler
    sampling = SamplingParams(max_tokens=5, stop_token_ids=frozenset({EOS}), ignore_eos=True)
    scheduler.add(Request(RequestId("a"), (1,), sampling), Mode.SERVE)
    assert commit_eos(scheduler) == [FinishReason.STOP]


def test_admission_is_first_come_first_served() -> None:
    instance = FakeInstance(pages=4)
    instance.add("big", 14)
    instance.add("bigger", 16)
    instance.add("small", 1)
    assert [s.request_id for s in instance.scheduler.admit()] == ["big"]
    instance.release("big")
    assert [s.request_id for s in instance.scheduler.admit()] == ["bigger"]


def test_what_never_fits_is_refused_at_once() -> None:
    instance = FakeInstance(pages=2)
    with pytest.raises(CapacityError, match=r"9 tokens need 3 pages, the pool has 2; .* lower max_tokens"):
        instance.add("huge", 4, max_tokens=6)
    with pytest.raises(CapacityError):
        instance.add("huge", 9, mode=Mode.EXPORT)
    instance.add("prefill only", 8, max_tokens=100, mode=Mode.EXPORT)
    instance.add("a", 4, max_tokens=5)
    with pytest.raises(RequestError, match="already in use"):
        instance.add("a", 1)


def test_import_waits_for_its_kv_then_decodes() -> None:
    instance = FakeInstance()
    instance.add("i", 5, max_tokens=2, mode=Mode.IMPORT)
    assert instance.step() is None
    assert instance.get("i").phase is Phase.RESERVED
    assert len(instance.get("i").pages) == 2
    instance.deliver("i")
    sequence = instance.get("i")
    assert chunks(instance.step()) == [("i", 5, 6)]
    assert sequence.tokens(5, 6) == (next_token(tuple(range(5))),)
    assert instance.answers["i"] == whole_answer(sequence.request)
    assert instance.first_draws["i"] == 0
    assert instance.empty()


def test_import_that_fails_is_prefilled_here() -> None:
    instance = FakeInstance()
    instance.add("i", 5, mode=Mode.IMPORT)
    instance.step()
    instance.scheduler.prefill_here(RequestId("i"))
    assert chunks(instance.step()) == [("i", 0, 5)]
    assert instance.ended == {"i": FinishReason.LENGTH}
    assert instance.scheduler.begin_decode(RequestId("i"), 7) is None
    assert instance.empty()


def test_export_holds_its_pages_until_released() -> None:
    instance = FakeInstance()
    instance.add("e", 5, max_tokens=100, mode=Mode.EXPORT)
    assert chunks(instance.step()) == [("e", 0, 5)]
    assert instance.answers["e"] == [next_token(tuple(range(5)))]
    assert instance.pages.used == 2
    assert instance.step() is None
    instance.release("e")
    assert instance.empty()


def test_what_was_released_while_it_was_computed_is_not_committed() -> None:
    scheduler = FakeInstance().scheduler
    scheduler.add(request("a", 3, 5), Mode.SERVE)
    scheduler.admit()
    plan = scheduler.plan()
    assert plan is not None
    scheduler.release(RequestId("a"))
    scheduler.add(request("a", 3, 5), Mode.SERVE)
    scheduler.admit()
    assert scheduler.commit(plan, {RequestId("a"): 1}) == []
    assert scheduler.waiting_tokens == 3


def test_waiting_tokens_are_those_that_this_instance_computes() -> None:
    instance = FakeInstance(slots=2, step_tokens=8)
    instance.add("a", 20)
    instance.add("i", 7, mode=Mode.IMPORT)
    instance.add("b", 5)
    instance.add("j", 30, mode=Mode.IMPORT)
    assert instance.scheduler.waiting_tokens == 25
    instance.step()
    assert instance.scheduler.waiting_tokens == 17
    instance.scheduler.prefill_here(RequestId("i"))
    assert instance.scheduler.waiting_tokens == 24


class Untouched(tuple[int, ...]):
    """A prompt that counts the tokens read of it."""

    read = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        Untouched.read += len(found) if isinstance(found, tuple) else 1
        return found


def test_a_decode_step_reads_nothing_of_the_prompt() -> None:
    instance = FakeInstance(pages=40)
    prompt = Untouched(range(100))
    instance.scheduler.add(Request(RequestId("i"), prompt, SamplingParams(max_tokens=5)), Mode.IMPORT)
    instance.scheduler.admit()
    instance.scheduler.begin_decode(RequestId("i"), 3)
    plan = instance.scheduler.plan()
    assert plan is not None
    assert [c.sequence.tokens(c.start, c.end) for c in plan.chunks] == [(3,)]
    assert Untouched.read == 0
    assert plan.chunks[0].sequence.tokens(98, 101) == (98, 99, 3)

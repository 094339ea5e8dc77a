"""Admission, chunking and the end of requests; properties under random traffic."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.pool import PagePool
from prfaas.core.errors import CapacityError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase, Sequence

PAGE = 4
EOS = 9


class Rig:
    """A scheduler with its pools."""

    def __init__(self, pages: int = 16, slots: int = 4, step_tokens: int = 8) -> None:
        self.pages, self.slots = PagePool(pages), PagePool(slots, "state slot")
        self.step_tokens = step_tokens
        self.scheduler = Scheduler(
            self.pages, self.slots, page_tokens=PAGE, step_tokens=step_tokens, eos_token_ids=frozenset({EOS})
        )

    def add(self, name: str, prompt: int, max_tokens: int = 1, mode: Mode = Mode.SERVE) -> None:
        self.scheduler.add(request(name, prompt, max_tokens), mode)

    def step(self, token: int = 1) -> tuple[StepPlan | None, list[tuple[str, FinishReason | None]]]:
        self.scheduler.admit()
        plan = self.scheduler.plan()
        if plan is None:
            return None, []
        drew = self.scheduler.commit(plan, {c.sequence.request_id: token for c in plan.chunks if c.samples})
        return plan, [(s.request_id, reason) for s, reason in drew]

    def empty(self) -> bool:
        self.pages.check()
        self.slots.check()
        return self.pages.used == self.slots.used == self.scheduler.num_active == self.scheduler.num_waiting == 0


def request(name: str, prompt: int, max_tokens: int = 1) -> Request:
    return Request(RequestId(name), tuple(range(prompt)), SamplingParams(max_tokens=max_tokens))


def test_a_long_prompt_is_cut_at_page_boundaries_and_decodes_go_first() -> None:
    rig = Rig(step_tokens=10)
    rig.add("short", 3, max_tokens=9)
    plan, drew = rig.step()
    assert plan is not None
    assert drew == [("short", None)]
    rig.add("long", 13)
    seen: list[list[tuple[int, int]]] = []
    while (step := rig.step())[0] is not None and len(seen) < 2:
        plan = step[0]
        assert plan is not None
        assert [c.sequence.request_id for c in plan.decodes] == ["short"]
        seen.append([(c.start, c.end) for c in plan.prefills])
    assert seen == [[(0, 8)], [(8, 13)]]


def test_eos_stops_unless_ignored() -> None:
    rig = Rig()
    rig.add("a", 2, max_tokens=5)
    assert rig.step(EOS)[1] == [("a", FinishReason.STOP)]
    ignoring = replace(request("b", 2, 2), sampling=SamplingParams(max_tokens=2, ignore_eos=True))
    rig.scheduler.add(ignoring, Mode.SERVE)
    assert rig.step(EOS)[1] == [("b", None)]
    assert rig.step(EOS)[1] == [("b", FinishReason.LENGTH)]
    assert rig.empty()


def test_admission_is_first_come_first_served() -> None:
    rig = Rig(pages=4)
    rig.add("big", 14)
    rig.add("bigger", 16)
    rig.add("small", 1)
    assert [s.request_id for s in rig.scheduler.admit()] == ["big"]
    rig.scheduler.release(RequestId("big"))
    assert [s.request_id for s in rig.scheduler.admit()] == ["bigger"]


def test_what_never_fits_is_refused_at_once() -> None:
    rig = Rig(pages=2)
    with pytest.raises(CapacityError, match=r"need 3 pages, the pool has 2"):
        rig.add("huge", 9)
    rig.add("a", 1)
    with pytest.raises(RequestError, match="already in use"):
        rig.add("a", 1)


def test_import_waits_for_its_kv_then_decodes() -> None:
    rig = Rig()
    rig.add("i", 5, max_tokens=2, mode=Mode.IMPORT)
    assert rig.step() == (None, [])
    sequence = rig.scheduler.get(RequestId("i"))
    assert sequence is not None
    assert sequence.phase is Phase.RESERVED
    begun = rig.scheduler.begin_decode(RequestId("i"), 7)
    assert begun is not None
    assert begun[1] is None
    plan, drew = rig.step()
    assert plan is not None
    assert [(c.start, c.end, c.sequence.tokens(c.start, c.end)) for c in plan.decodes] == [(5, 6, (7,))]
    assert drew == [("i", FinishReason.LENGTH)]
    assert rig.empty()


def test_import_that_fails_is_prefilled_here() -> None:
    rig = Rig()
    rig.add("i", 5, max_tokens=1, mode=Mode.IMPORT)
    rig.step()
    rig.scheduler.prefill_here(RequestId("i"))
    assert rig.step()[1] == [("i", FinishReason.LENGTH)]
    assert rig.scheduler.begin_decode(RequestId("i"), 7) is None
    assert rig.empty()


def test_export_holds_its_pages_until_released() -> None:
    rig = Rig()
    rig.add("e", 5, max_tokens=100, mode=Mode.EXPORT)
    assert rig.step()[1] == [("e", None)]
    assert rig.pages.used == 2
    assert rig.step() == (None, [])
    assert rig.scheduler.release(RequestId("e"))
    assert not rig.scheduler.release(RequestId("e"))
    assert rig.empty()


TRAFFIC = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 6), st.sampled_from(list(Mode)), st.booleans()), max_size=12
)
Traffic = list[tuple[int, int, Mode, bool]]
"""(prompt tokens, max_tokens, mode, whether an import's KV comes) per request."""


class Driver:
    """Plays engine and network for a rig, and checks every plan on the way."""

    def __init__(self, traffic: Traffic, step_tokens: int) -> None:
        self.traffic = traffic
        self.rig = Rig(pages=12, slots=5, step_tokens=step_tokens)
        self.ended: set[str] = set()
        self.computed: dict[str, int] = {}
        for i, (prompt, max_tokens, mode, _) in enumerate(traffic):
            self.rig.add(f"r{i}", prompt, max_tokens, mode)

    def run(self) -> None:
        for _ in range(1000):
            admitted = self.rig.scheduler.admit()
            for sequence in admitted:
                self.deliver(sequence)
            plan = self.rig.scheduler.plan()
            if plan is not None:
                self.check(plan)
                self.commit(plan)
            elif not admitted:
                return
        raise AssertionError("the scheduler never came to rest")

    def deliver(self, sequence: Sequence) -> None:
        if sequence.mode is not Mode.IMPORT:
            return
        if self.traffic[int(sequence.request_id[1:])][3]:
            begun = self.rig.scheduler.begin_decode(sequence.request_id, 1)
            assert begun is not None
            if begun[1] is not None:
                self.ended.add(sequence.request_id)
        else:
            self.rig.scheduler.prefill_here(sequence.request_id)

    def check(self, plan: StepPlan) -> None:
        assert 0 < plan.num_tokens <= self.rig.step_tokens
        for chunk in plan.prefills:
            assert chunk.start == self.computed.get(chunk.sequence.request_id, 0)
            self.computed[chunk.sequence.request_id] = chunk.end

    def commit(self, plan: StepPlan) -> None:
        drawn = {c.sequence.request_id: 1 for c in plan.chunks if c.samples}
        for sequence, reason in self.rig.scheduler.commit(plan, drawn):
            if sequence.mode is Mode.EXPORT:
                self.rig.scheduler.release(sequence.request_id)
            if sequence.mode is Mode.EXPORT or reason:
                self.ended.add(sequence.request_id)


@given(TRAFFIC, st.integers(6, 30))
def test_every_request_ends_within_budget_and_nothing_leaks(traffic: Traffic, step_tokens: int) -> None:
    driver = Driver(traffic, step_tokens)
    driver.run()
    assert driver.ended == {f"r{i}" for i in range(len(traffic))}
    assert driver.rig.empty()

"""The step loop with a model that counts: a thread, real sockets, no torch weights."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from prfaas.cache.changes import Change, Stored
from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.layout import lay_out
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.engine.drawer import build_drawer
from prfaas.engine.drawn import Drawn
from prfaas.engine.engine import Engine
from prfaas.engine.link import connect, listen
from prfaas.engine.messages import (
    Admitted,
    Announce,
    BeginDecode,
    CacheChanged,
    Event,
    Failed,
    Generated,
    LayerDone,
    Preempted,
    Prefilled,
    PrefillHere,
    Progressed,
    Ready,
    Release,
    Stats,
    Stop,
    Submit,
)
from prfaas.engine.model_runner import ModelRunner
from prfaas.engine.prefixes import Prefixes
from prfaas.models.batch import CacheTensors, ForwardBatch
from prfaas.models.row_table import RowTable
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode
from tests.wire.small import SHAPE

PAGE = 4
VOCAB = 100
STATE_PAGES = lay_out(SHAPE, PAGE).state_pages
POISON, CRASH = 66, 77

E = TypeVar("E", bound=Event)


def counting(batch: ForwardBatch, _: CacheTensors, on_layer: Callable[[int], None] | None) -> Tensor:
    """Every token's successor is the next number; POISON makes NaN, CRASH raises."""
    for layer in range(len(SHAPE.layers)):
        if on_layer:
            on_layer(layer)
    if CRASH in batch.token_ids.tolist():
        raise RuntimeError("out of memory")
    logits = torch.zeros(len(batch.logit_rows), VOCAB)
    for row, token in enumerate(batch.token_ids[batch.logit_rows].tolist()):
        logits[row, (token + 1) % VOCAB] = float("nan") if token == POISON else 1.0
    return logits


class Rig:
    """A running engine and its front's end."""

    def __init__(
        self, pages: int = 16, slots: int = 4, step_tokens: int = 8, *, cached: bool = False, announced_s: float = 60.0
    ) -> None:
        """`pages` beside those that the states of `slots` requests take."""
        layout = lay_out(SHAPE, PAGE)
        self.cache = PrefixCache(
            PagePool(pages + slots * layout.state_pages),
            block_tokens=PAGE,
            state_pages=layout.state_pages,
            enabled=cached,
            record_changes=True,
        )
        scheduler = Scheduler(
            self.cache,
            SnapshotPolicy(PAGE),
            fingerprint="model",
            step_tokens=step_tokens,
            max_running=slots,
            eos_token_ids=frozenset({99}),
        )
        self.prefixes = Prefixes(self.cache, None, time.monotonic, announced_s)
        runner = ModelRunner(counting, CacheTensors(PAGE, (), RowTable.of(layout)), build_drawer(Path(), (99,)))
        self.link = listen()
        self.stats = Stats()
        self.events: deque[Event] = deque()
        self.broke: list[Exception] = []
        self._parts = scheduler, runner, SHAPE, self.cache, self.prefixes
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        # What is sent to an engine that has not connected is lost.
        assert self.link.take(wait=True) == [Ready("", VOCAB, compiled_kernels=False)]

    def _run(self) -> None:
        link = connect(os.dup(self.link.fd))
        link.send([Ready("", VOCAB, compiled_kernels=False)])
        try:
            Engine(*self._parts, link, time.monotonic).run()
        except Exception as error:  # noqa: BLE001 - a thread's edge
            self.broke.append(error)
        link.close()

    def submit(self, name: str, prompt: list[int], max_tokens: int, mode: Mode = Mode.SERVE) -> None:
        request = Request(RequestId(name), tuple(prompt), SamplingParams(max_tokens=max_tokens, temperature=0))
        self.link.send([Submit(request, mode)])

    def release(self, name: str) -> None:
        self.link.send([Release(RequestId(name))])

    def next(self) -> Event:
        """In the order in which they were sent; readings are kept as well."""
        while not self.events:
            self.events.extend(self.link.take(wait=True))
        event = self.events.popleft()
        self.stats = event if isinstance(event, Stats) else self.stats
        return event

    def until(self, name: str, kind: type[E]) -> E:
        while True:
            event = self.next()
            if isinstance(event, kind) and getattr(event, "request_id", None) == name:
                return event

    def tokens(self, name: str) -> tuple[list[int], FinishReason]:
        found = []
        while True:
            event = self.until(name, Generated)
            found.append(event.token_id)
            if event.finish:
                return found, event.finish

    def until_stats(self, holds: Callable[[Stats], bool]) -> None:
        while not holds(self.stats):
            self.next()

    def settle(self) -> None:
        """Everything is free again, and the published reading says so."""
        self.until_stats(lambda s: (s.running_requests, s.waiting_requests, s.pages_used) == (0, 0, 0))
        self.cache.check()

    def stop(self) -> None:
        self.link.send([Stop()])
        self._thread.join(10)
        self.link.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.settle()
    made.stop()


def test_serves_from_prompt_to_length(rig: Rig) -> None:
    rig.submit("a", [1, 2, 3], 4)
    assert rig.tokens("a") == ([4, 5, 6, 7], FinishReason.LENGTH)


def test_stops_at_eos(rig: Rig) -> None:
    rig.submit("a", [97], 10)
    assert rig.tokens("a") == ([98, 99], FinishReason.STOP)


def test_long_prompt_is_computed_in_chunks_and_accounted(rig: Rig) -> None:
    rig.submit("a", list(range(20)), 1)
    assert len(rig.until("a", Admitted).pages) == 5
    assert [rig.until("a", Progressed).tokens_done for _ in range(3)] == [8, 16, 20]
    prefilled = rig.until("a", Prefilled)
    assert prefilled.prefill_s > 0
    assert prefilled.first_token_id == 20


def test_more_requests_than_fit_all_end(rig: Rig) -> None:
    for i in range(30):
        rig.submit(f"r{i}", [i + 1], 3)
    done: dict[str, list[int]] = {}
    finished = 0
    while finished < 30:
        event = rig.next()
        if isinstance(event, Generated):
            done.setdefault(event.request_id, []).append(event.token_id)
            finished += event.finish is not None
    assert done == {f"r{i}": [i + 2, i + 3, i + 4] for i in range(30)}


def test_export_reports_layers_as_they_are_done_and_holds_until_released(rig: Rig) -> None:
    rig.submit("e", list(range(10)), 50, Mode.EXPORT)
    assert len(rig.until("e", Admitted).pages) == 3
    told: list[Event] = []
    while not told or not isinstance(told[-1], Prefilled):
        told.append(rig.next())
    # Layer 0 is linear: it is final, and reported, only with the last chunk.
    layers = [(e.layer, e.start, e.end) for e in told if isinstance(e, LayerDone)]
    assert layers == [(1, 0, 8), (0, 0, 10), (1, 8, 10)]
    assert told[-1] == Prefilled(RequestId("e"), 10, 0, told[-1].queue_s, told[-1].prefill_s)
    assert rig.cache.pool.used == 3 + STATE_PAGES
    rig.release("e")


def test_layers_are_told_while_later_ones_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step goes on only when its first layers have been heard of."""
    heard = threading.Event()

    def waits(_: ModelRunner, plan: StepPlan, on_layer: Callable[[int], None]) -> Drawn:
        on_layer(1)
        assert heard.wait(10)
        return Drawn({chunk.sequence.request_id: 5 for chunk in plan.chunks if chunk.samples})

    monkeypatch.setattr(ModelRunner, "run", waits)
    rig = Rig()
    rig.submit("e", [1, 2], 1, Mode.EXPORT)
    assert rig.until("e", LayerDone) == LayerDone(RequestId("e"), 1, 0, 2)
    heard.set()
    assert rig.until("e", Prefilled).first_token_id == 5
    rig.release("e")
    rig.settle()
    rig.stop()


def test_a_long_step_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    read_again = threading.Event()

    def long(_: ModelRunner, plan: StepPlan, on_layer: Callable[[int], None]) -> Drawn:
        while not read_again.wait(0.01):
            on_layer(1)
        return Drawn({chunk.sequence.request_id: 5 for chunk in plan.chunks})

    monkeypatch.setattr(ModelRunner, "run", long)
    rig = Rig()
    rig.submit("a", [1], 1)
    rig.until_stats(lambda s: s.layers_computed > 0)
    before = rig.stats.layers_computed
    rig.until_stats(lambda s: s.layers_computed > before)
    read_again.set()
    assert rig.tokens("a")[0] == [5]
    rig.stop()


def test_import_decodes_after_its_kv_or_prefills_here(rig: Rig) -> None:
    rig.submit("i", [1, 2, 3], 3, Mode.IMPORT)
    rig.until("i", Admitted)
    rig.link.send([BeginDecode(RequestId("i"), 50)])
    assert rig.tokens("i") == ([50, 51, 52], FinishReason.LENGTH)
    rig.submit("j", [1, 2, 3], 2, Mode.IMPORT)
    rig.until("j", Admitted)
    rig.link.send([PrefillHere(RequestId("j"))])
    assert rig.tokens("j") == ([4, 5], FinishReason.LENGTH)


def test_a_preempted_request_goes_on_and_is_accounted_once() -> None:
    rig = Rig(pages=6, slots=2)
    for name in ("a", "b"):
        rig.submit(name, [1, 2, 3], 18)
    seen: dict[str, list[Event]] = {"a": [], "b": []}
    while not all(events and isinstance(events[-1], Generated) and events[-1].finish for events in seen.values()):
        event = rig.next()
        if isinstance(event, Admitted | Prefilled | Preempted | Generated):
            seen[event.request_id].append(event)
    assert any(isinstance(event, Preempted) for event in seen["b"])
    for events in seen.values():
        assert [type(event) for event in events[:2]] == [Admitted, Prefilled]
        rest = [event for event in events[2:] if not isinstance(event, Preempted)]
        assert [event.token_id for event in rest if isinstance(event, Generated)] == list(range(4, 22))
        assert len(rest) == 18
    rig.settle()
    rig.stop()


def test_nan_logits_fail_that_request_alone(rig: Rig) -> None:
    rig.submit("bad", [POISON], 5)
    rig.submit("good", [1], 5)
    failed = rig.until("bad", Failed)
    assert (failed.code, failed.reason) == ("engine_failed", "nan")
    rig.submit("later", [1], 2)
    assert rig.tokens("later")[0] == [2, 3]


def test_a_step_that_raises_fails_its_requests_and_the_engine_goes_on(rig: Rig) -> None:
    rig.submit("bad", [CRASH], 5)
    failed = rig.until("bad", Failed)
    assert (failed.code, failed.reason) == ("engine_failed", "step")
    rig.submit("later", [1], 2)
    assert rig.tokens("later")[0] == [2, 3]


def test_refusals_are_events(rig: Rig) -> None:
    rig.submit("huge", [1] * PAGE * (rig.cache.pool.size + 1), 1)
    failed = rig.until("huge", Failed)
    assert (failed.code, failed.reason) == ("capacity_exceeded", None)


@pytest.mark.parametrize("when", ["waiting", "running", "reserved"])
def test_release_frees_in_every_phase(rig: Rig, when: str) -> None:
    if when == "waiting":
        for i in range(4):
            rig.submit(f"block{i}", [1], 1, Mode.IMPORT)
    rig.submit("a", [1], 40, Mode.IMPORT if when == "reserved" else Mode.SERVE)
    if when == "running":
        rig.until("a", Generated)
    rig.release("a")
    rig.release("a")
    for i in range(4):
        rig.release(f"block{i}")
    rig.submit("b", [1], 1)
    assert rig.tokens("b")[0] == [2]


def test_a_broken_loop_is_reported_and_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Scheduler) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Scheduler, "plan", broken)
    rig = Rig()
    rig.stop()
    assert isinstance(rig.broke[0], KeyError)


def test_a_failed_export_keeps_its_memory_until_the_sender_lets_go(rig: Rig) -> None:
    rig.submit("x", [1] * 8 + [CRASH], 1, Mode.EXPORT)
    rig.until("x", Failed)
    rig.until_stats(lambda s: s.running_requests == 1)
    assert rig.cache.pool.used == 3 + STATE_PAGES
    rig.release("x")


@pytest.fixture
def cached() -> Iterator[Rig]:
    made = Rig(pages=64, cached=True)
    yield made
    made.settle()
    made.stop()


def test_a_second_prompt_is_told_what_it_need_not_compute(cached: Rig) -> None:
    for name, reused in (("a#1", 0), ("b#2", 8)):
        cached.submit(name, list(range(10)), 2)
        admitted = cached.until(name, Admitted)
        assert (admitted.cached_tokens, admitted.held_tokens) == (reused, reused)
        assert cached.until(name, Prefilled).tokens_reused == reused
        assert cached.tokens(name)[0][-1] == 11
    cached.until_stats(lambda s: s.running_requests == 0 and s.prefix.hit_tokens == 8)
    assert cached.stats.prefix.queried_tokens == 20
    assert cached.stats.pages_used == 0
    assert cached.stats.pages_cached == 2 + cached.stats.prefix.snapshots * STATE_PAGES


def test_what_begins_and_ceases_to_be_held_is_told(cached: Rig) -> None:
    cached.submit("a", list(range(10)), 1)
    told: list[Change] = []
    while len(told) < 3:
        event = cached.next()
        told += event.changes if isinstance(event, CacheChanged) else ()
    first, second, snapshot = told
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.part, first.parent, first.token_ids) == ("kv", None, (0, 1, 2, 3))
    assert (second.part, second.parent, second.token_ids) == ("kv", first.block_hash, (4, 5, 6, 7))
    assert snapshot == Stored("state", second.block_hash, first.block_hash, ())


def test_an_import_is_told_what_need_not_be_sent_and_after_its_failure_computes_from_there(cached: Rig) -> None:
    cached.submit("a", list(range(10)), 1)
    cached.tokens("a")
    cached.submit("i", list(range(14)), 2, Mode.IMPORT)
    admitted = cached.until("i", Admitted)
    assert (admitted.cached_tokens, admitted.held_tokens) == (0, 8)
    cached.link.send([PrefillHere(RequestId("i"))])
    assert cached.until("i", Prefilled).tokens_reused == 8
    assert cached.tokens("i") == ([14, 15], FinishReason.LENGTH)


@pytest.mark.parametrize(("lossy", "told"), [(True, 8), (False, 0)])
def test_what_was_rounded_on_its_way_here_is_told_to_whom_it_serves(cached: Rig, lossy: bool, told: int) -> None:
    cached.submit("i", list(range(10)), 2, Mode.IMPORT)
    assert cached.until("i", Admitted).lossy_tokens == 0
    cached.link.send([BeginDecode(RequestId("i"), 50, lossy)])
    cached.tokens("i")
    cached.submit("j", list(range(10)), 2, Mode.IMPORT)
    admitted = cached.until("j", Admitted)
    assert (admitted.held_tokens, admitted.lossy_tokens, admitted.lossy_state) == (8, told, False)
    cached.link.send([BeginDecode(RequestId("j"), 50)])
    cached.tokens("j")


def test_nothing_of_a_request_that_went_wrong_is_reused(cached: Rig) -> None:
    prompt = [*range(8), POISON]
    for name in ("a", "b"):
        cached.submit(name, prompt, 1)
        assert cached.until(name, Admitted).cached_tokens == 0
        assert cached.until(name, Failed).reason == "nan"
    assert cached.cache.blocks == 0


def test_a_prompt_that_was_cut_at_a_snapshot_fails_once(cached: Rig) -> None:
    cached.submit("a", [*range(5), CRASH], 1)
    cached.until("a", Failed)
    cached.submit("b", [1], 1)
    while not isinstance(event := cached.next(), Generated):
        assert not isinstance(event, Failed)
    cached.settle()


def test_an_announced_prefix_outlives_what_would_have_evicted_it() -> None:
    rig = Rig(pages=8, slots=3, cached=True)
    rig.submit("a#1", list(range(9)), 1)
    rig.tokens("a#1")
    names = tuple(block_hashes(root_hash("model", ""), range(9), PAGE))
    rig.link.send([Announce("b", names)])
    rig.submit("other#2", list(range(50, 70)), 1)
    rig.tokens("other#2")
    rig.submit("b#3", list(range(9)), 1)
    assert rig.until("b#3", Admitted).cached_tokens == 8
    rig.tokens("b#3")
    assert rig.cache.leases == 0
    rig.settle()
    rig.stop()


def test_what_is_announced_gives_way_to_a_request_that_needs_its_memory_when_nothing_runs() -> None:
    rig = Rig(pages=8, slots=2, cached=True)
    rig.submit("a#1", list(range(9)), 1)
    rig.tokens("a#1")
    names = tuple(block_hashes(root_hash("model", ""), range(9), PAGE))
    rig.link.send([Announce("b", names), Announce("c", names)])
    rig.until_stats(lambda s: s.running_requests == 0 and s.pages_used == 2 + STATE_PAGES)
    rig.submit("all#2", [40] * (8 + STATE_PAGES) * PAGE, 1)
    assert rig.tokens("all#2")[0] == [41]
    assert rig.cache.leases == 0
    rig.until_stats(lambda s: s.prefix.stale_leases > 0)
    rig.settle()
    rig.stop()


def test_an_announcement_expires_while_nothing_else_happens() -> None:
    rig = Rig(pages=8, slots=2, cached=True, announced_s=0.2)
    rig.submit("a#1", list(range(9)), 1)
    rig.tokens("a#1")
    rig.settle()
    rig.link.send([Announce("never comes", tuple(block_hashes(root_hash("model", ""), range(9), PAGE)))])
    rig.until_stats(lambda s: s.running_requests == 0 and s.pages_used == 2 + STATE_PAGES)
    rig.until_stats(lambda s: s.prefix.stale_leases == 1)
    rig.settle()
    rig.stop()

"""The step loop with a model that counts: a thread, real messages, no torch weights."""

import queue
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from prfaas.cache.pool import PagePool
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.engine.engine import Engine
from prfaas.engine.messages import (
    Admitted,
    BeginDecode,
    Event,
    Failed,
    Generated,
    Prefilled,
    PrefillHere,
    Progressed,
    Release,
    Submit,
)
from prfaas.engine.runner import Runner
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics
from tests.eventually import eventually
from tests.wire.small import SHAPE

PAGE = 4
VOCAB = 100
POISON, CRASH = 66, 77


def counting(batch: ForwardBatch, _: CacheTensors, on_layer: LayerDone | None) -> Tensor:
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


class Sink:
    """Records what an export is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def reserved(self, pages: tuple[int, ...], slot: int) -> None:
        self.told.append(("reserved", len(pages), slot))

    def layer_done(self, layer: int, start: int, end: int) -> None:
        self.told.append((layer, start, end))

    def finished(self, first_token_id: int, queue_s: float, prefill_s: float) -> None:
        assert queue_s >= 0
        assert prefill_s >= 0
        self.told.append(("finished", first_token_id))


class Rig:
    """A running engine and its events."""

    def __init__(self, pages: int = 16, slots: int = 4, step_tokens: int = 8) -> None:
        self.pools = PagePool(pages), PagePool(slots, "state slot")
        scheduler = Scheduler(*self.pools, page_tokens=PAGE, step_tokens=step_tokens, eos_token_ids=frozenset({99}))
        runner = Runner(counting, CacheTensors(PAGE, ()))
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.engine = Engine(scheduler, runner, SHAPE, self.pools, self.metrics, time.monotonic)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.died = threading.Event()
        self.engine.start(self._emit, self.died.set)

    def _emit(self, events: list[Event]) -> None:
        for event in events:
            self.events.put(event)

    def submit(
        self, name: str, prompt: list[int], max_tokens: int, mode: Mode = Mode.SERVE, sink: Sink | None = None
    ) -> None:
        request = Request(RequestId(name), tuple(prompt), SamplingParams(max_tokens=max_tokens, temperature=0))
        self.engine.send(Submit(request, mode, sink))

    def until(self, name: str, kind: type[Event]) -> Event:
        while True:
            event = self.events.get(timeout=10)
            if event.request_id == name and isinstance(event, kind):
                return event

    def tokens(self, name: str) -> tuple[list[int], FinishReason]:
        found = []
        while True:
            event = self.until(name, Generated)
            assert isinstance(event, Generated)
            found.append(event.token_id)
            if event.finish:
                return found, event.finish

    def settle(self) -> None:
        """Everything is free again, and the published reading says so."""
        eventually(lambda: self.engine.stats.running_requests == self.engine.stats.waiting_requests == 0)
        assert (self.engine.stats.pages_used, self.engine.stats.slots_used) == (0, 0)
        for pool in self.pools:
            pool.check()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.settle()
    made.engine.stop()


def test_serves_from_prompt_to_length(rig: Rig) -> None:
    rig.submit("a", [1, 2, 3], 4)
    assert rig.tokens("a") == ([4, 5, 6, 7], FinishReason.LENGTH)


def test_stops_at_eos(rig: Rig) -> None:
    rig.submit("a", [97], 10)
    assert rig.tokens("a") == ([98, 99], FinishReason.STOP)


def test_long_prompt_is_computed_in_chunks_and_accounted(rig: Rig) -> None:
    rig.submit("a", list(range(20)), 1)
    admitted = rig.until("a", Admitted)
    assert isinstance(admitted, Admitted)
    assert len(admitted.pages) == 5
    done = [rig.until("a", Progressed) for _ in range(3)]
    assert [d.tokens_done for d in done if isinstance(d, Progressed)] == [8, 16, 20]
    prefilled = rig.until("a", Prefilled)
    assert isinstance(prefilled, Prefilled)
    assert prefilled.prefill_s > 0


def test_more_requests_than_fit_all_end(rig: Rig) -> None:
    for i in range(30):
        rig.submit(f"r{i}", [i + 1], 3)
    done: dict[str, list[int]] = {}
    finished = 0
    while finished < 30:
        event = rig.events.get(timeout=10)
        if isinstance(event, Generated):
            done.setdefault(event.request_id, []).append(event.token_id)
            finished += event.finish is not None
    assert done == {f"r{i}": [i + 2, i + 3, i + 4] for i in range(30)}


def test_export_reports_layers_as_they_are_done_and_holds_until_released(rig: Rig) -> None:
    sink = Sink()
    rig.submit("e", list(range(10)), 50, Mode.EXPORT, sink)
    rig.until("e", Prefilled)
    assert sink.told[0][:2] == ("reserved", 3)
    # Layer 0 is linear: it is final, and reported, only with the last chunk.
    assert sink.told[1:] == [(1, 0, 8), (0, 0, 10), (1, 8, 10), ("finished", 10)]
    eventually(lambda: rig.engine.stats.pages_used == 3)
    rig.engine.send(Release(RequestId("e")))


def test_import_decodes_after_its_kv_or_prefills_here(rig: Rig) -> None:
    rig.submit("i", [1, 2, 3], 3, Mode.IMPORT)
    rig.until("i", Admitted)
    rig.engine.send(BeginDecode(RequestId("i"), 50))
    assert rig.tokens("i") == ([50, 51, 52], FinishReason.LENGTH)
    rig.submit("j", [1, 2, 3], 2, Mode.IMPORT)
    rig.until("j", Admitted)
    rig.engine.send(PrefillHere(RequestId("j")))
    assert rig.tokens("j") == ([4, 5], FinishReason.LENGTH)


def test_nan_logits_fail_that_request_alone(rig: Rig) -> None:
    rig.submit("bad", [POISON], 5)
    rig.submit("good", [1], 5)
    failed = rig.until("bad", Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "engine_failed"
    rig.submit("later", [1], 2)
    assert rig.tokens("later")[0] == [2, 3]


def test_a_step_that_raises_fails_its_requests_and_the_engine_goes_on(rig: Rig) -> None:
    rig.submit("bad", [CRASH], 5)
    assert isinstance(rig.until("bad", Failed), Failed)
    rig.submit("later", [1], 2)
    assert rig.tokens("later")[0] == [2, 3]


def test_refusals_are_events(rig: Rig) -> None:
    rig.submit("huge", list(range(90)), 1)
    failed = rig.until("huge", Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "capacity_exceeded"


@pytest.mark.parametrize("when", ["waiting", "running", "reserved"])
def test_release_frees_in_every_phase(rig: Rig, when: str) -> None:
    if when == "waiting":
        for i in range(4):
            rig.submit(f"block{i}", [1], 1, Mode.IMPORT)
    rig.submit("a", [1], 40, Mode.IMPORT if when == "reserved" else Mode.SERVE)
    if when == "running":
        rig.until("a", Generated)
    rig.engine.send(Release(RequestId("a")))
    rig.engine.send(Release(RequestId("a")))
    for i in range(4):
        rig.engine.send(Release(RequestId(f"block{i}")))
    rig.submit("b", [1], 1)
    assert rig.tokens("b")[0] == [2]


def test_a_broken_loop_is_reported_and_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Scheduler) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Scheduler, "plan", broken)
    rig = Rig()
    assert rig.died.wait(10)


def test_a_failed_export_keeps_its_memory_until_the_sender_lets_go(rig: Rig) -> None:
    rig.submit("x", [1] * 8 + [CRASH], 1, Mode.EXPORT, Sink())
    rig.until("x", Failed)
    eventually(lambda: rig.engine.stats.pages_used == 3)
    rig.engine.send(Release(RequestId("x")))

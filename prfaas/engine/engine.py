"""The step loop of one instance: take commands, schedule, run, commit, report.

It runs on one thread and talks to the rest of the process only by messages, so that it can move into another process.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from prfaas.cache.pool import PagePool
from prfaas.core.clock import Clock
from prfaas.core.errors import EngineError, PrfaasError
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason
from prfaas.core.shape import ModelShape
from prfaas.engine.messages import (
    Admitted,
    BeginDecode,
    Command,
    Event,
    Failed,
    Generated,
    KvSink,
    Prefilled,
    PrefillHere,
    Progressed,
    Release,
    Stats,
    Submit,
)
from prfaas.engine.runner import Runner
from prfaas.models.batch import LayerDone
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Sequence
from prfaas.telemetry.metrics import InstanceMetrics

log = logging.getLogger(__name__)

Emit = Callable[[list[Event]], None]
"""Takes the events of one step, on the engine's thread."""


@dataclass(slots=True)
class _Times:
    submitted: float
    admitted: float = 0.0
    first_chunk: float | None = None


class Engine:
    """Owns the scheduler and the runner; everything is injected."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        shape: ModelShape,
        pools: tuple[PagePool, PagePool],
        metrics: InstanceMetrics,
        clock: Clock,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._shape = shape
        self._pages, self._slots = pools
        self._metrics = metrics
        self._clock = clock
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._events: list[Event] = []
        self._sinks: dict[RequestId, KvSink] = {}
        self._times: dict[RequestId, _Times] = {}
        self._emit: Emit
        self._on_death: Callable[[], None]
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.layers_computed = 0
        """Grows while the engine works, several times a step; a watcher tells a long step from a hang by it."""
        self.stats = Stats(pages_total=self._pages.size, slots_total=self._slots.size)

    def start(self, emit: Emit, on_death: Callable[[], None]) -> None:
        """Begins the loop; `emit` gets every event from now on, `on_death` is called if the loop ever breaks."""
        self._emit = emit
        self._on_death = on_death
        self._thread.start()

    def send(self, command: Command) -> None:
        """From any thread; commands are taken in order, between steps."""
        self._commands.put(command)

    def stop(self) -> None:
        """Ends the loop after the step that runs now."""
        self._commands.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop()
        except Exception:  # the thread's edge: without its engine the process must not look alive
            log.critical("the engine broke", exc_info=True)
            self._on_death()

    def _loop(self) -> None:
        while True:
            self._admit()
            plan = self._scheduler.plan()
            if plan is not None:
                self._step(plan)
            self._report()
            # After a step more may fit; with nothing to compute and all admitted that fits, only a command changes it.
            if not self._take_commands(wait=plan is None):
                return

    def _take_commands(self, *, wait: bool) -> bool:
        """Applies what has been sent, at least one command if `wait`. False: stop."""
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            self._apply(command)
            wait = False

    def _apply(self, command: Command) -> None:
        match command:
            case Submit(request, mode, sink):
                try:
                    self._scheduler.add(request, mode)
                except PrfaasError as error:
                    self._events.append(Failed(request.request_id, error.code, str(error)))
                    return
                self._times[request.request_id] = _Times(self._clock())
                if sink is not None:
                    self._sinks[request.request_id] = sink
            case BeginDecode(request_id, first_token_id):
                begun = self._scheduler.begin_decode(request_id, first_token_id)
                if begun is not None:
                    self._drew(*begun)
            case PrefillHere(request_id):
                self._scheduler.prefill_here(request_id)
            case Release(request_id):
                self._release(request_id)

    def _admit(self) -> None:
        for sequence in self._scheduler.admit():
            times = self._times[sequence.request_id]
            times.admitted = self._clock()
            if sink := self._sinks.get(sequence.request_id):
                sink.reserved(sequence.pages, sequence.slot)
            waited = times.admitted - times.submitted
            self._events.append(Admitted(sequence.request_id, sequence.pages, sequence.slot, waited))

    def _step(self, plan: StepPlan) -> None:
        started = self._clock()
        for chunk in plan.prefills:
            times = self._times[chunk.sequence.request_id]
            times.first_chunk = started if times.first_chunk is None else times.first_chunk
        try:
            drawn = self._runner.run(plan, self._layer_done(plan))
        except (RuntimeError, IndexError, ValueError) as error:
            # Whatever torch raises here, the requests of this step are lost and all others go on.
            log.exception("an engine step failed")
            for chunk in plan.chunks:
                self._fail(chunk.sequence.request_id, f"the engine step failed: {error}")
            return
        self._metrics.steps.inc()
        self._metrics.step_seconds.observe(self._clock() - started)
        self._metrics.tokens.labels("decode").inc(len(plan.decodes))
        self._metrics.tokens.labels("prefill").inc(sum(chunk.num_tokens for chunk in plan.prefills))
        self._commit(plan, drawn)

    def _commit(self, plan: StepPlan, drawn: dict[RequestId, int | None]) -> None:
        good = {request_id: token for request_id, token in drawn.items() if token is not None}
        drew = self._scheduler.commit(plan, good)
        self._events.extend(Progressed(c.sequence.request_id, c.end) for c in plan.prefills)
        prefilled = {c.sequence.request_id for c in plan.prefills if c.completes_prompt}
        for sequence, finish in drew:
            if sequence.request_id in prefilled:
                self._prefilled(sequence)
            self._drew(sequence, finish)
        for request_id in drawn.keys() - good.keys():
            self._fail(request_id, "the model produced logits that are not finite")

    def _prefilled(self, sequence: Sequence) -> None:
        times = self._times[sequence.request_id]
        assert times.first_chunk is not None
        queue_s, prefill_s = times.first_chunk - times.admitted, self._clock() - times.first_chunk
        self._events.append(Prefilled(sequence.request_id, queue_s, prefill_s))
        if sink := self._sinks.get(sequence.request_id):
            sink.finished(sequence.output_token_ids[-1], times.first_chunk - times.submitted, prefill_s)

    def _drew(self, sequence: Sequence, finish: FinishReason | None) -> None:
        if sequence.mode is Mode.EXPORT:
            return
        self._events.append(Generated(sequence.request_id, sequence.output_token_ids[-1], finish))
        if finish is not None:
            self._release(sequence.request_id)

    def _layer_done(self, plan: StepPlan) -> LayerDone:
        """Tells the sinks of exported chunks, layer by layer, while later layers compute."""
        exported = [(self._sinks[c.sequence.request_id], c) for c in plan.prefills if c.sequence.mode is Mode.EXPORT]

        def layer_done(layer: int) -> None:
            self.layers_computed += 1
            paged = self._shape.layers[layer].paged
            for sink, chunk in exported:
                if paged:
                    sink.layer_done(layer, chunk.start, chunk.end)
                elif chunk.completes_prompt:
                    sink.layer_done(layer, 0, chunk.end)

        return layer_done

    def _fail(self, request_id: RequestId, message: str) -> None:
        log.error("request %s: %s", request_id, message)
        if request_id in self._sinks:
            # What was handed to the sink may be on its way to a socket; its end releases the memory.
            self._scheduler.hold(request_id)
        else:
            self._release(request_id)
        self._events.append(Failed(request_id, EngineError.code, message))

    def _release(self, request_id: RequestId) -> None:
        self._scheduler.release(request_id)
        self._sinks.pop(request_id, None)
        self._times.pop(request_id, None)

    def _report(self) -> None:
        scheduler = self._scheduler
        self.layers_computed = 0
        """Grows while the engine works, several times a step; a watcher tells a long step from a hang by it."""
        self.stats = Stats(
            waiting_requests=scheduler.num_waiting,
            running_requests=scheduler.num_active,
            waiting_tokens=scheduler.waiting_tokens,
            pages_used=self._pages.used,
            pages_total=self._pages.size,
            slots_used=self._slots.used,
            slots_total=self._slots.size,
        )
        if self._events:
            events, self._events = self._events, []
            self._emit(events)

"""The step loop of one instance: take commands, schedule, run, commit, report. Knows its front by messages only."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.clock import Clock
from prfaas.core.errors import EngineError, NoRoomError, PrfaasError
from prfaas.core.ids import RequestId
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import FinishReason
from prfaas.core.shape import ModelShape
from prfaas.engine.drawn import Drawn
from prfaas.engine.link import EngineLink
from prfaas.engine.messages import (
    Admitted,
    Announce,
    BeginDecode,
    CacheChanged,
    Command,
    Event,
    Failed,
    Generated,
    KeepPrefix,
    LayerDone,
    Lend,
    Lent,
    Preempted,
    Prefilled,
    PrefillHere,
    Progressed,
    Release,
    Reserve,
    Stats,
    Stop,
    Submit,
)
from prfaas.engine.page_copies import PageCopies, SharedPages
from prfaas.engine.prefix_moves import PrefixMoves
from prfaas.engine.prefixes import Prefixes
from prfaas.engine.runner import Runner
from prfaas.engine.step_account import stepped
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase, Sequence

log = logging.getLogger(__name__)

STATS_EVERY_S = 0.1
"""Within a long step; whoever waits for this instance sees that it lives."""


@dataclass(slots=True)
class _Times:
    """First moments: a request that is preempted keeps them."""

    submitted: float
    admitted: float | None = None
    first_chunk: float | None = None


class Engine:
    """Owns the scheduler and the runner; everything is injected."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        shape: ModelShape,
        cache: PrefixCache,
        prefixes: Prefixes,
        link: EngineLink,
        clock: Clock,
        copies: PageCopies | None = None,
    ) -> None:
        """`copies`: of pages that others read and write; by default the model computes in memory that all share."""
        self._scheduler = scheduler
        self._runner = runner
        self._shape = shape
        self._cache = cache
        self._prefixes = prefixes
        self._moves = PrefixMoves(cache, scheduler.names, lambda: scheduler.wanted_pages)
        self._link = link
        self._clock = clock
        self._copies = copies or SharedPages()
        self._events: list[Event] = []
        self._times: dict[RequestId, _Times] = {}
        self._layers_computed = 0
        self._stats = Stats()
        self._stats_sent = clock()

    def run(self) -> None:
        """Returns after `Stop`. What it raises is a fault of ours, after which the engine is of no use."""
        stopped = False
        while not stopped:
            self._prefixes.advance()
            self._admit()
            plan = self._scheduler.plan()
            if plan is not None:
                self._step(plan)
            elif self._scheduler.starved and self._give_way():
                continue
            else:
                self._runner.rest()
            self._report()
            # After a step more may fit; with nothing to compute and all admitted that fits, only a command changes it.
            stopped = self._take_commands(wait=plan is None)
        self._prefixes.close()

    def _take_commands(self, *, wait: bool) -> bool:
        """Applies what has been sent, for which it waits if `wait`. True: stop."""
        while commands := self._link.take(wait=wait, at_most_s=self._prefixes.idle_at_most_s() if wait else None):
            for command in commands:
                if isinstance(command, Stop):
                    return True
                self._apply(command)
            wait = False
        return False

    def _apply(self, command: Command) -> None:
        match command:
            case Submit():
                self._submit(command)
            case BeginDecode(request_id, first_token_id, lossy):
                self._push_imported(request_id)
                begun = self._scheduler.begin_decode(request_id, first_token_id, lossy=lossy)
                if begun is not None:
                    self._drew(*begun)
            case PrefillHere(request_id, verified_tokens, lossy):
                self._prefill_here(request_id, verified_tokens, lossy=lossy)
            case Lend() | Reserve():
                self._begin_move(command)
            case KeepPrefix():
                self._keep(command)
            case Release(request_id):
                self._release(request_id)
            case Announce(request_id, block_hashes):
                self._prefixes.announced(request_id, block_hashes)

    def _submit(self, command: Submit) -> None:
        request = command.request
        try:
            self._scheduler.add(request, command.mode)
        except PrfaasError as error:
            self._events.append(Failed(request.request_id, error.code, str(error)))
            return
        self._times[request.request_id] = _Times(self._clock())
        if sequence := self._scheduler.get(request.request_id):
            self._prefixes.arrived(sequence)

    def _begin_move(self, command: Lend | Reserve) -> None:
        request, lends = command.request, isinstance(command, Lend)
        try:
            admitted = self._moves.lend(request) if lends else self._moves.reserve(request)
        except PrfaasError as error:
            self._events.append(Failed(request.request_id, error.code, str(error)))
            return
        self._events.append(admitted)
        if lends:
            self._copies.fetch([*admitted.pages, *admitted.state_pages])
            self._events.append(Lent(request.request_id))

    def _keep(self, command: KeepPrefix) -> None:
        self._copies.push(self._moves.written(command.request_id))
        kept = self._moves.keep(command.request_id, lossy=command.lossy)
        if not kept:
            log.info("a prefix that came is not kept: what it follows proved wrong meanwhile, or it was given up")
            return
        for request_id in command.wanted_by:
            self._prefixes.announced(request_id, tuple(kept))

    def _give_way(self) -> bool:
        """Requests wait for memory and nothing runs. False: nothing came free at once."""
        if self._prefixes.give_way():
            return True
        if (request_id := self._moves.give_way()) is not None:
            # Bytes may be on their way into its pages; whoever receives them answers with `Release`.
            self._events.append(Failed(request_id, NoRoomError.code, "requests wait for the memory of this prefix"))
        return False

    def _push_imported(self, request_id: RequestId) -> None:
        sequence = self._scheduler.get(request_id)
        if sequence is not None and sequence.phase is Phase.RESERVED:
            held = sequence.held_tokens // self._cache.block_tokens
            self._copies.push([*sequence.pages[held:], *sequence.state_pages])

    def _prefill_here(self, request_id: RequestId, verified_tokens: int, *, lossy: bool) -> None:
        sequence = self._scheduler.get(request_id)
        arrived = sequence.pages if sequence is not None and sequence.phase is Phase.RESERVED else ()
        kept = self._scheduler.prefill_here(request_id, verified_tokens, lossy=lossy)
        if kept is not None:
            block = self._cache.block_tokens
            self._copies.push(arrived[kept.start // block : kept.stop // block])

    def _admit(self) -> None:
        for sequence in self._scheduler.admit():
            times = self._times[sequence.request_id]
            if times.admitted is not None:
                continue
            times.admitted = self._clock()
            self._prefixes.admitted(sequence)
            if sequence.mode is Mode.EXPORT:  # what is cached leaves at once
                self._copies.fetch(sequence.pages[: -(-sequence.cached_tokens // self._cache.block_tokens)])
            self._events.append(
                Admitted(
                    sequence.request_id,
                    sequence.pages,
                    sequence.state_pages,
                    times.admitted - times.submitted,
                    sequence.cached_tokens,
                    sequence.held_tokens,
                    sequence.lossy_tokens,
                    sequence.lossy_state,
                )
            )

    def _step(self, plan: StepPlan) -> None:
        self._tell_preempted(plan)
        # Who was admitted, or refused, need not wait for the step to hear of it.
        self._send_events()
        if not plan.chunks:
            return
        started = self._clock()
        for chunk in plan.prefills:
            times = self._times[chunk.sequence.request_id]
            times.first_chunk = started if times.first_chunk is None else times.first_chunk
        try:
            drawn = self._runner.run(plan, self._on_layer(plan))
        except (RuntimeError, IndexError, ValueError) as error:
            # Whatever torch raises here, the requests of this step are lost and all others go on.
            log.exception("an engine step failed")
            # A prompt may have several chunks in a step.
            for request_id in dict.fromkeys(chunk.sequence.request_id for chunk in plan.chunks):
                self._fail(request_id, "step", f"the engine step failed: {error}")
            return
        seconds = self._clock() - started
        self._scheduler.observe(plan, seconds)
        self._prefixes.stepped(plan.num_prefill_tokens, seconds)
        self._commit(plan, drawn)
        self._events.append(stepped(plan, seconds, self._runner.forward_seconds, self._runner.late_s))

    def _tell_preempted(self, plan: StepPlan) -> None:
        if plan.preempted:
            self._events.extend(Preempted(sequence.request_id) for sequence in plan.preempted)
            log.info("the pool is full: %d requests gave their pages up and will go on later", len(plan.preempted))

    def _on_layer(self, plan: StepPlan) -> Callable[[int], None]:
        """Reports the layers of exported chunks, one by one, while later layers compute."""
        exported = [chunk for chunk in plan.prefills if chunk.sequence.mode is Mode.EXPORT]

        def on_layer(layer: int) -> None:
            self._layers_computed += 1
            paged = self._shape.layers[layer].paged
            for chunk in exported:
                if paged or chunk.completes_prompt:
                    start, sequence = chunk.start if paged else 0, chunk.sequence
                    self._copies.fetch_layer(layer, start, chunk.end, sequence.pages, sequence.state_pages)
                    self._events.append(LayerDone(chunk.sequence.request_id, layer, start, chunk.end))
            if self._clock() - self._stats_sent >= STATS_EVERY_S:
                self._report()
            self._send_events()

        return on_layer

    def _commit(self, plan: StepPlan, drawn: Drawn) -> None:
        drew = self._scheduler.commit(plan, drawn.tokens)
        self._events.extend(Progressed(chunk.sequence.request_id, chunk.end) for chunk in plan.prefills)
        first = {chunk.sequence.request_id for chunk in plan.prefills if chunk.draws_first_token}
        for sequence, finish in drew:
            if sequence.request_id in first:
                self._prefilled(sequence)
                self._prefixes.prefilled(sequence)
            self._drew(sequence, finish, drawn.logprobs.get(sequence.request_id))
        for request_id in drawn.not_finite:
            self._scheduler.invalidate(request_id)
            for lent in self._moves.unsound():
                self._events.append(Failed(lent, EngineError.code, "what this prefix was computed with proved wrong"))
            self._fail(request_id, "nan", "the model produced logits that are not finite")
        for request_id, error in drawn.faults.items():
            self._fail(request_id, None, str(error), error.code)

    def _prefilled(self, sequence: Sequence) -> None:
        times = self._times[sequence.request_id]
        assert times.first_chunk is not None
        assert times.admitted is not None
        queue_s, prefill_s = times.first_chunk - times.admitted, self._clock() - times.first_chunk
        token_id, reused = sequence.output_token_ids[-1], sequence.cached_tokens
        verified = sequence.verified_tokens
        self._events.append(Prefilled(sequence.request_id, token_id, reused, queue_s, prefill_s, verified))

    def _drew(self, sequence: Sequence, finish: FinishReason | None, logprobs: TokenLogprobs | None = None) -> None:
        if sequence.mode is Mode.EXPORT:
            return
        self._events.append(Generated(sequence.request_id, sequence.output_token_ids[-1], finish, logprobs))
        if finish is not None:
            self._release(sequence.request_id)

    def _fail(
        self, request_id: RequestId, reason: Literal["nan", "step"] | None, message: str, code: str = EngineError.code
    ) -> None:
        log.error("request %s: %s", request_id, message)
        sequence = self._scheduler.get(request_id)
        if sequence is not None and sequence.mode is Mode.EXPORT:
            # What has been reported may be on its way to a socket; the front releases it after the last byte.
            self._scheduler.hold(request_id)
        else:
            self._release(request_id)
        self._events.append(Failed(request_id, code, message, reason))

    def _release(self, request_id: RequestId) -> None:
        self._scheduler.release(request_id)
        self._moves.release(request_id)
        self._runner.forget(request_id)
        self._times.pop(request_id, None)

    def _report(self) -> None:
        """Sends all events, and the present reading if it is a new one."""
        if changes := self._cache.take_changes():
            self._events.append(CacheChanged(tuple(changes)))
        stats = self._read_stats()
        if stats != self._stats:
            self._stats, self._stats_sent = stats, self._clock()
            self._events.append(stats)
        self._send_events()

    def _read_stats(self) -> Stats:
        scheduler = self._scheduler
        return Stats(
            waiting_requests=scheduler.num_waiting,
            running_requests=scheduler.num_active,
            waiting_tokens=scheduler.waiting_tokens,
            pages_used=self._cache.pool.used - self._cache.idle_pages,
            pages_cached=self._cache.idle_pages,
            pages_total=self._cache.pool.size,
            prefix=self._prefixes.stats(),
            layers_computed=self._layers_computed,
        )

    def _send_events(self) -> None:
        if self._events:
            # Nobody there is no case of its own: without its front the process ends.
            self._link.send(self._events)
            self._events = []

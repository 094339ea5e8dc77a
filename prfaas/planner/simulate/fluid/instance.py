"""One instance in jumps: its decodes from one end of an answer to the next, its prompts a step's budget at a time.

Admission, shares of a step and what is cached are the live scheduler's; memory that runs out while requests decode, so
that one loses it, is not: answers have their pages from the start. Computes nothing.
"""

from math import inf

from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.config.deployment import PlannedEngineSection
from prfaas.core.errors import CapacityError
from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival
from prfaas.planner.simulate.fluid.batch import Batch
from prfaas.planner.simulate.fluid.beside import beside
from prfaas.planner.simulate.fluid.line import Line
from prfaas.planner.simulate.fluid.memory import TaskMemory
from prfaas.planner.simulate.fluid.names import block_names
from prfaas.planner.simulate.fluid.pool import empty_cache
from prfaas.planner.simulate.fluid.prompts import Prompts, Turn
from prfaas.planner.simulate.fluid.task import Task
from prfaas.planner.simulate.instance import Listener, Load
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.running import max_running
from prfaas.planner.simulate.seat import Seat
from prfaas.policy.profile import Profile
from prfaas.scheduler.memory import watermark_pages
from prfaas.scheduler.sequence import Mode, Phase

BESIDE_TOKENS = 1024
"""Of prompts, that are computed in one piece beside decodes, although their steps carry fewer: events cost time."""


class FluidInstance:
    """A `SimulatedInstance` at fidelity `fluid`."""

    def __init__(
        self, loop: EventLoop, listener: Listener, seat: Seat, profile: Profile, engine: PlannedEngineSection
    ) -> None:
        """Raises ConfigError where the profile's memory has no room for requests."""
        self.instance_id = seat.instance_id
        self.cluster = seat.cluster
        self.kind = seat.kind
        self.role = seat.role
        self.profile = profile
        self._loop = loop
        self._listener = listener
        self._engine = engine
        self._max_running = max_running(engine, profile, seat.role)
        self._cache = empty_cache(profile, engine)
        caching = engine.prefix_cache
        snapshots = SnapshotPolicy(ID_TOKENS, caching.snapshot_every_tokens, caching.answer_snapshot_tokens)
        self._memory = TaskMemory(self._cache, snapshots)
        self._line = Line(self._memory, self._cache)
        self._prompts = Prompts(profile.prefill, engine.page_tokens)
        self._batch = Batch(profile.decode)
        self._tasks: dict[Job, Task] = {}
        self._running = 0
        """Tasks that hold memory."""
        self._growing = 0
        self._submitted = 0
        self._arrived: list[Task] = []
        """Whose KV has come since decodes were last looked at."""
        self._turning = False
        """Some of the prompts are computed, until an event that comes for certain."""
        self._alone = False
        """That leaves no room for decodes, nor for newcomers, until it ends."""
        self._look_s = inf
        """When it is next looked who can begin."""
        self._end_s = inf
        """When an answer is next looked to have ended."""

    @property
    def max_running(self) -> int:
        return self._max_running

    def cached_tokens(self, arrival: Arrival) -> int:
        return self._memory.cached_tokens(arrival)

    def reserve(self, job: Job) -> None:
        """Raises CapacityError if the instance could never hold it; so do `export` and `serve`."""
        self._submit(job, Mode.IMPORT)

    def begin_decode(self, job: Job) -> None:
        """`first_token` follows when the step that runs has ended."""
        self._arrived.append(self._tasks[job])
        self._look_soon()

    def prefill_here(self, job: Job) -> None:
        task = self._tasks[job]
        assert task.phase is Phase.RESERVED
        self._free(task)
        task.imports_prompt = False
        self._line.add(task)
        self._look_soon()

    def export(self, job: Job) -> None:
        self._submit(job, Mode.EXPORT)

    def serve(self, job: Job) -> None:
        self._submit(job, Mode.SERVE)

    def import_prefix(self, arrival: Arrival, tokens: int) -> None:
        self._memory.import_prefix(arrival, tokens)

    def release(self, job: Job) -> None:
        task = self._tasks.pop(job, None)
        if task is None:
            return
        if task.phase is Phase.WAITING:
            self._line.remove(task)
        else:
            if task.phase is Phase.PREFILL:
                self._prompts.remove(task)
            elif task.phase is Phase.DECODE:
                self._batch.settle(self._loop.now_s)
                self._batch.leave(task)
                self._watch_batch()
            self._free(task)
        task.phase = Phase.HELD
        if self._line:
            self._look_soon()

    def load(self) -> Load:
        """Pages in the engine's size, as the live instance counts them."""
        waiting = self._line.tokens + self._prompts.remaining_tokens()
        free = self._cache.available * ID_TOKENS // self._engine.page_tokens
        return Load(waiting, len(self._line), self._running, free)

    def check(self) -> None:
        """Raises PoolError unless the memory's books balance."""
        self._cache.check()

    def _submit(self, job: Job, mode: Mode) -> None:
        assert job not in self._tasks
        arrival = job.arrival
        self._submitted += 1
        names = block_names(arrival) if self._cache.enabled and arrival.blocks else ()
        task = Task(job, mode, self._submitted, arrival.prompt_tokens, names, imports_prompt=mode is Mode.IMPORT)
        if self._memory.pages_for(task.total_tokens) > self._cache.pool.size:
            raise CapacityError(self._too_large(arrival))
        self._tasks[job] = task
        self._line.add(task)
        self._look_soon()

    def _too_large(self, arrival: Arrival) -> str:
        return (
            f"{self.instance_id} can never hold request {arrival.number} of {arrival.prompt_tokens} prompt and "
            f"{arrival.output_tokens} output tokens: profile {self.profile.name} has {self._cache.pool.size} pages of "
            f"{ID_TOKENS} tokens, of which a request's states take {self._cache.state_pages}; raise "
            "hardware.cache_gib in the profile, or lower workload.input.max_tokens or workload.output_tokens"
        )

    def _look_soon(self) -> None:
        """When the step that runs has ended; then also listeners hear, never from within their own calls."""
        if self._alone:
            return
        when_s = self._batch.settle(self._loop.now_s)
        if when_s < self._look_s:
            self._look_s = when_s
            self._loop.at(when_s, self._look, when_s)

    def _look(self, due_s: float) -> None:
        if due_s == self._look_s:
            self._look_s = inf
            if not self._alone:
                self._proceed(self._batch.settle(due_s))

    def _proceed(self, next_turn_s: float) -> None:
        """Between two steps: who has all its KV decodes, who fits is admitted, and the next prompts are computed."""
        if self._arrived:
            self._begin_arrived()
        reserved = self._admit() if self._line else ()
        if self._prompts and not self._turning:
            self._next_turn(next_turn_s)
        self._watch_batch()
        for task in reserved:
            if task.phase is Phase.RESERVED:
                self._listener.reserved(task.job)

    def _begin_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        for task in arrived:
            if task.phase is Phase.RESERVED:
                self._memory.imported(task)
                self._first_token(task)

    def _first_token(self, task: Task) -> None:
        """Decoding begins, at the batch's boundary; an answer of one token ends with that."""
        rest = task.job.arrival.output_tokens - 1
        if rest > 0:
            task.phase = Phase.DECODE
            self._batch.join(task, rest)
            self._listener.first_token(task.job)
        else:
            self._finish(task)
            self._listener.first_token(task.job)
            self._listener.finished(task.job)

    def _admit(self) -> list[Task]:
        """In order of arrival, as far as there is room. Returns imports."""
        reserved: list[Task] = []
        if self._running >= self._max_running:
            return reserved
        computing = dict(end for task in self._prompts if (end := _end_computed(task)))
        while self._running < self._max_running:
            keep_free = watermark_pages(self._growing, self._cache.pool.size)
            task = self._line.next(computing, keep_free, alone=not self._running)
            if task is None:
                break
            self._running += 1
            self._growing += task.grows
            if task.imports_prompt:
                task.phase = Phase.RESERVED
                task.job.held_tokens = task.named_blocks * ID_TOKENS
                reserved.append(task)
            else:
                task.phase = Phase.PREFILL
                self._prompts.add(task)
                if end := _end_computed(task):
                    computing[end[0]] = end[1]
        return reserved

    def _next_turn(self, start_s: float) -> None:
        """The next chunks: a step's whole budget alone, or as much as goes in one piece beside decodes."""
        self._alone = not self._batch.size
        engine = self._engine
        turn = self._prompts.turn(engine.step_tokens if self._alone else min(BESIDE_TOKENS, engine.step_tokens))
        alone_s = seconds = turn.work_s + turn.overheads_s
        extra_s = 0.0
        if not self._alone:
            among = beside(turn, self._batch.step_s, engine.decode_slowdown, engine.page_tokens)
            seconds, extra_s = among.seconds, among.extra_s
        self._batch.slow(extra_s)
        if self._alone:
            self._batch.hold_until(start_s + seconds)
        else:
            self._batch.hold_until(self._batch.boundary_s + turn.overheads_s)
        self._turning = True
        self._loop.at(start_s + seconds, self._end_turn, turn)
        for task, _ in turn.chunks:
            if not task.begun:
                task.job.cached_tokens = task.cached_tokens
                expected_s = self._prompts.expected_s(task) * seconds / alone_s
                task.begun = True
                self._listener.prefill_started(task.job, expected_s)

    def _end_turn(self, turn: Turn) -> None:
        self._batch.settle(self._loop.now_s)
        self._batch.slow(0.0)
        done = []
        for task, tokens in turn.chunks:
            if task.phase is Phase.PREFILL:
                task.computed_tokens += tokens
                task.job.computed_tokens += tokens
                if not task.remaining_tokens:
                    done.append(task)
        for task in done:
            self._prefilled(task)
        self._alone = self._turning = False
        self._proceed(self._loop.now_s)

    def _prefilled(self, task: Task) -> None:
        if task.phase is not Phase.PREFILL:
            return
        self._prompts.remove(task)
        self._memory.computed(task, watermark_pages(self._growing, self._cache.pool.size))
        task.phase = Phase.HELD
        self._listener.prefilled(task.job)
        if task.mode is not Mode.EXPORT and self._tasks.get(task.job) is task:
            self._first_token(task)

    def _watch_batch(self) -> None:
        """One event at a time waits for the next end; where it comes too early, it is asked for again."""
        end_s = self._batch.next_end_s()
        if end_s is not None and end_s < self._end_s:
            self._end_s = end_s
            self._loop.at(end_s, self._ended, end_s)

    def _ended(self, due_s: float) -> None:
        if due_s != self._end_s:
            return
        self._end_s = inf
        tasks = self._batch.ended(self._loop.now_s)
        for task in tasks:
            self._memory.answered(task)
            self._finish(task)
        self._watch_batch()
        for task in tasks:
            self._listener.finished(task.job)
        if self._line:
            self._look_soon()

    def _finish(self, task: Task) -> None:
        task.phase = Phase.HELD
        del self._tasks[task.job]
        self._free(task)

    def _free(self, task: Task) -> None:
        self._memory.free(task)
        self._running -= 1
        self._growing -= task.grows


def _end_computed(task: Task) -> tuple[BlockHash, int] | None:
    """Where others can go on from a prompt that is being computed, and blocks until then."""
    blocks = task.usable_blocks
    return (task.names[blocks - 1], blocks) if blocks else None

"""One instance, step by step: the real scheduler decides, and its profile says what each step takes. Computes nothing.

As in the live engine, what comes while a step runs is looked at when it has ended. Slower tiers are not simulated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.config.deployment import PlannedEngineSection
from prfaas.core.errors import CapacityError
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.instance import Listener, Load
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.running import step_running
from prfaas.planner.simulate.seat import Seat
from prfaas.planner.simulate.step.memory import Memory
from prfaas.planner.simulate.step.prefix import cached_tokens, import_prefix
from prfaas.planner.simulate.step.prompts import FINGERPRINT, answer_tokens, prompt_tokens, snapshot_unit
from prfaas.policy.profile import Profile
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Sequence
from prfaas.scheduler.step_time import remaining_s, step_s


@dataclass(slots=True, eq=False)
class _Run:
    """What this instance does for a job."""

    job: Job
    request_id: RequestId
    answer: tuple[int, ...]
    """The tokens that it will draw."""
    begun: bool = False
    """Its first chunk was."""


class StepInstance:
    """A `SimulatedInstance` at fidelity `step`."""

    def __init__(
        self, loop: EventLoop, listener: Listener, seat: Seat, profile: Profile, engine: PlannedEngineSection
    ) -> None:
        """Raises ConfigError where the profile's memory, or a step, has no room for requests."""
        self.instance_id = seat.instance_id
        self.cluster = seat.cluster
        self.kind = seat.kind
        self.role = seat.role
        self.profile = profile
        self._loop = loop
        self._listener = listener
        self._memory = Memory.of(profile, engine.page_tokens)
        self._max_running = step_running(engine, profile, seat.role)
        self._cache = self._memory.cache(engine)
        caching = engine.prefix_cache
        self._scheduler = Scheduler(
            self._cache,
            SnapshotPolicy(
                snapshot_unit(engine.page_tokens), caching.snapshot_every_tokens, caching.answer_snapshot_tokens
            ),
            fingerprint=FINGERPRINT,
            step_tokens=engine.step_tokens,
            max_running=self._max_running,
            eos_token_ids=frozenset(),
            decode_slowdown=engine.decode_slowdown,
        )
        self._runs: dict[RequestId, _Run] = {}
        self._by_job: dict[Job, _Run] = {}
        self._arrived: list[_Run] = []
        """Whose KV has come since the last step was planned."""
        self._submitted = 0
        self._changed = False
        """Something came since the last step was planned."""
        self._awake = False
        """A step runs, or is about to be planned."""

    @property
    def max_running(self) -> int:
        return self._max_running

    def cached_tokens(self, arrival: Arrival) -> int:
        return cached_tokens(self._cache, arrival)

    def reserve(self, job: Job) -> None:
        """Raises CapacityError if the instance could never hold it; so do `export` and `serve`."""
        self._submit(job, Mode.IMPORT)

    def begin_decode(self, job: Job) -> None:
        """`first_token` follows when the step that runs has ended."""
        self._arrived.append(self._by_job[job])
        self._wake()

    def prefill_here(self, job: Job) -> None:
        self._scheduler.prefill_here(self._by_job[job].request_id)
        self._wake()

    def export(self, job: Job) -> None:
        self._submit(job, Mode.EXPORT)

    def serve(self, job: Job) -> None:
        self._submit(job, Mode.SERVE)

    def import_prefix(self, arrival: Arrival, tokens: int) -> None:
        import_prefix(self._cache, arrival, tokens)
        self._wake()

    def release(self, job: Job) -> None:
        run = self._by_job.pop(job, None)
        if run is not None:
            del self._runs[run.request_id]
            self._scheduler.release(run.request_id)
            self._wake()

    def load(self) -> Load:
        scheduler = self._scheduler
        return Load(scheduler.waiting_tokens, scheduler.num_waiting, scheduler.num_active, self._cache.available)

    def check(self) -> None:
        """Raises PoolError unless the memory's books balance."""
        self._cache.check()

    def _submit(self, job: Job, mode: Mode) -> None:
        assert job not in self._by_job
        arrival = job.arrival
        self._submitted += 1
        request_id = RequestId(f"{arrival.number}.{self._submitted}")
        sampling = SamplingParams(max_tokens=arrival.output_tokens, ignore_eos=True)
        try:
            self._scheduler.add(Request(request_id, prompt_tokens(arrival), sampling), mode)
        except CapacityError as error:
            raise CapacityError(self._too_large(arrival)) from error
        run = _Run(job, request_id, answer_tokens(arrival))
        self._runs[request_id] = self._by_job[job] = run
        self._wake()

    def _too_large(self, arrival: Arrival) -> str:
        return (
            f"{self.instance_id} can never hold request {arrival.number} of {arrival.prompt_tokens} prompt and "
            f"{arrival.output_tokens} output tokens: profile {self.profile.name} has {self._memory.num_pages} pages of "
            f"{self._cache.block_tokens} tokens, of which a request's states take {self._memory.state_pages}; raise "
            "hardware.cache_gib in the profile, or lower workload.input.max_tokens or workload.output_tokens"
        )

    def _wake(self) -> None:
        self._changed = True
        if not self._awake:
            self._awake = True
            self._loop.after(0.0, self._next_step)

    def _next_step(self) -> None:
        """Admits and plans, until there is a step to run or nothing more to do. Listeners may send more meanwhile."""
        while True:
            self._changed = False
            self._begin_arrived()
            for sequence in self._scheduler.admit():
                self._admitted(sequence)
            plan = self._scheduler.plan()
            if plan is not None and plan.chunks:
                break
            if plan is None and not self._changed:
                self._awake = False
                return
        seconds = step_s(self.profile, plan)
        self._loop.after(seconds, self._step_ended, plan, seconds)
        if plan.prefills:
            self._prefills_begin(plan.prefills)

    def _begin_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        for run in arrived:
            if run.request_id not in self._runs:
                continue
            begun = self._scheduler.begin_decode(run.request_id, run.answer[0])
            assert begun is not None, "decoding begins once, after a reservation"
            self._listener.first_token(run.job)
            self._tell_finished(run, begun[1])

    def _admitted(self, sequence: Sequence) -> None:
        run = self._runs.get(sequence.request_id)
        if run is not None and sequence.imports_prompt:
            run.job.held_tokens = sequence.held_tokens
            self._listener.reserved(run.job)

    def _prefills_begin(self, chunks: tuple[Chunk, ...]) -> None:
        # A prompt may have several chunks in a step.
        firsts = {chunk.sequence: chunk for chunk in reversed(chunks)}
        for sequence, chunk in firsts.items():
            run = self._runs.get(sequence.request_id)
            if run is None or run.begun:
                continue
            run.begun = True
            run.job.cached_tokens = sequence.cached_tokens
            others = [other for other in firsts.values() if other is not chunk]
            self._listener.prefill_started(run.job, remaining_s(self.profile, chunk, others))

    def _step_ended(self, plan: StepPlan, seconds: float) -> None:
        self._scheduler.observe(plan, seconds)
        for chunk in plan.prefills:
            self._computed(chunk)
        first = {c.sequence.request_id for c in plan.prefills if c.draws_first_token}
        for sequence, finish in self._scheduler.commit(plan, self._drawn(plan)):
            if finish is not None or sequence.request_id in first:
                self._drew(sequence, finish, first=sequence.request_id in first)
        self._next_step()

    def _computed(self, chunk: Chunk) -> None:
        run = self._runs.get(chunk.sequence.request_id)
        if run is not None:
            prompt = run.job.prompt_tokens
            run.job.computed_tokens += min(chunk.end, prompt) - min(chunk.start, prompt)

    def _drawn(self, plan: StepPlan) -> Mapping[RequestId, int]:
        drawn, runs = {}, self._runs
        for chunk in (*plan.decodes, *[chunk for chunk in plan.prefills if chunk.samples]):
            run = runs.get(chunk.sequence.request.request_id)
            if run is not None:
                drawn[run.request_id] = run.answer[chunk.num_outputs]
        return drawn

    def _drew(self, sequence: Sequence, finish: FinishReason | None, *, first: bool) -> None:
        run = self._runs.get(sequence.request_id)
        if run is None:
            return
        if first:
            self._listener.prefilled(run.job)
            if sequence.mode is Mode.EXPORT or run.request_id not in self._runs:
                return
            self._listener.first_token(run.job)
        self._tell_finished(run, finish)

    def _tell_finished(self, run: _Run, finish: FinishReason | None) -> None:
        if finish is not None and run.request_id in self._runs:
            del self._runs[run.request_id]
            del self._by_job[run.job]
            self._listener.finished(run.job)

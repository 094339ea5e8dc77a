"""An instance alone, a listener that writes down what it hears, and plain profiles to reckon with."""

from collections.abc import Callable

from prfaas.config.deployment import PlannedEngineSection
from prfaas.config.sections import PrefixCacheSection
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.fluid.instance import FluidInstance
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.seat import Seat
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.view import Role

TOKEN_S = 0.001
"""Of prefill."""
STEP_S = 0.02
"""Of decode."""
KV_BYTES = 1.0
"""Per token."""


def profile(
    *,
    overhead_s: float = 0.0,
    per_token_s: float = TOKEN_S,
    per_token2_s: float = 0.0,
    step_s: float = STEP_S,
    per_request_s: float = 0.0,
    per_context_token_s: float = 0.0,
    max_batch: int = 64,
    state_blocks: int = 0,
    pool_blocks: int = 10_000,
) -> Profile:
    points = ((1.0, step_s + per_request_s), (2.0, step_s + 2 * per_request_s))
    return Profile(
        "plain",
        PrefillCurve(overhead_s, per_token_s, per_token2_s),
        DecodeCurve(points, per_context_token_s, max_batch),
        KV_BYTES,
        state_blocks * 512 * KV_BYTES,
        pool_blocks * 512 * KV_BYTES,
    )


def engine(
    *,
    step_tokens: int = 8192,
    page_tokens: int = 64,
    max_running: int | None = None,
    slowdown: float = 2.0,
    cache: bool = True,
    every_tokens: int = 8192,
) -> PlannedEngineSection:
    return PlannedEngineSection(
        page_tokens=page_tokens,
        step_tokens=step_tokens,
        max_running_requests=max_running,
        decode_slowdown=slowdown,
        prefix_cache=PrefixCacheSection(enabled=cache, snapshot_every_tokens=every_tokens),
    )


class Stage:
    """A listener, its loop and one instance. Exports are released when they are prefilled; imports begin to decode when
    they have pages, after `crossing_s`. `hold` turns both off."""

    def __init__(
        self,
        role: Role = "prefill",
        a_profile: Profile | None = None,
        an_engine: PlannedEngineSection | None = None,
        *,
        hold: bool = False,
        crossing_s: float = 0.0,
    ) -> None:
        self.loop = EventLoop()
        seat = Seat(InstanceId("i-0"), ClusterName("here"), "pd", role)
        self.instance = FluidInstance(self.loop, self, seat, a_profile or profile(), an_engine or engine())
        self.heard: list[tuple[str, int, float]] = []
        """What, of which arrival, when."""
        self.jobs: list[Job] = []
        self.arrived_s: list[float] = []
        """Of those that are fed one after another."""
        self.expected_s: dict[int, float] = {}
        self._hold = hold
        self._crossing_s = crossing_s
        self.on: dict[str, Callable[[Job], None]] = {}
        """Further things to do when something is heard."""

    def at(self, time_s: float, what: Callable[[Job], None], arrival: Arrival) -> Job:
        """One of the instance's methods, for a new job."""
        job = Job(arrival)
        self.jobs.append(job)
        self.loop.at(time_s, what, job)
        return job

    def when(self, what: str, number: int) -> float:
        """The only time that something was heard."""
        times = [at_s for name, who, at_s in self.heard if (name, who) == (what, number)]
        assert len(times) == 1, f"{what} of {number} at {times}"
        return times[0]

    def names(self, number: int) -> list[str]:
        return [name for name, who, _ in self.heard if who == number]

    def assert_nothing_held(self) -> None:
        """The books balance, and all pages are free or only the index's."""
        self.instance.check()
        load = self.instance.load()
        assert (load.waiting_tokens, load.waiting_requests, load.running_requests) == (0, 0, 0)
        cache = self.instance._cache
        assert cache.available == cache.pool.size

    def reserved(self, job: Job) -> None:
        self._note("reserved", job)
        if not self._hold:
            self.loop.after(self._crossing_s, self.instance.begin_decode, job)

    def prefill_started(self, job: Job, expected_s: float) -> None:
        self.expected_s[job.arrival.number] = expected_s
        self._note("started", job)

    def prefilled(self, job: Job) -> None:
        job.prefilled_s = self.loop.now_s
        self._note("prefilled", job)
        if not self._hold:
            # Served jobs go on by themselves.
            self.on.get("exported", self._release_export)(job)

    def first_token(self, job: Job) -> None:
        job.first_token_s = self.loop.now_s
        self._note("first", job)

    def finished(self, job: Job) -> None:
        job.finished_s = self.loop.now_s
        self._note("finished", job)

    def _release_export(self, job: Job) -> None:
        if self.instance.role == "prefill":
            self.instance.release(job)

    def _note(self, what: str, job: Job) -> None:
        self.heard.append((what, job.arrival.number, self.loop.now_s))
        if what in self.on:
            self.on[what](job)


def arrival(
    number: int, prompt: int, output: int = 1, blocks: tuple[int, ...] = (), *, answer_blocks: tuple[int, ...] = ()
) -> Arrival:
    return Arrival(number, 0.0, prompt, output, blocks, answer_blocks=answer_blocks)

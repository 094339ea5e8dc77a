"""An instance at fidelity step, alone on a stage: what it tells its listener is written down with its time."""

from prfaas.config.deployment import PlannedEngineSection
from prfaas.config.sections import PrefixCacheSection
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.seat import Seat
from prfaas.planner.simulate.step.instance import StepInstance
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.view import Role

PAGE = 64
PREFILL = PrefillCurve(overhead_s=0.4, per_token_s=4e-5, per_token2_s=1e-10)
DECODE = DecodeCurve(points=((1, 0.020), (20, 0.025)), per_context_token_s=1e-9, max_batch=20)


def profile(*, pages: int = 20_000, state_pages: int = 10) -> Profile:
    """`state_pages`: less half a page, so that they are rounded up."""
    page_bytes = PAGE * 1000
    state_bytes = max(0.0, (state_pages - 0.5) * page_bytes)
    return Profile("test", PREFILL, DECODE, 1000, state_bytes, pages * page_bytes + 1)


def arrival(
    number: int,
    prompt: int,
    output: int = 1,
    blocks: tuple[int, ...] = (),
    answer_blocks: tuple[int, ...] = (),
) -> Arrival:
    return Arrival(number, 0.0, prompt, output, blocks, answer_blocks=answer_blocks)


class Stage:
    """Its listener too. Reservations are begun `transfer_s` after they were made; exports are released at once."""

    def __init__(
        self,
        profile: Profile,
        role: Role = "decode",
        *,
        step_tokens: int = 8192,
        running: int | None = None,
        snapshot_every: int = 8192,
        transfer_s: float | None = 0.5,
        release_exports: bool = True,
        slowdown: float = 2.0,
        cached: bool = True,
    ) -> None:
        self.loop = EventLoop()
        self.events: list[tuple[float, str, int]] = []
        self.expected_s: dict[int, float] = {}
        self.jobs: dict[int, Job] = {}
        self._exports: set[Job] = set()
        self._released: set[Job] = set()
        self._pages = int(profile.cache_bytes // (PAGE * profile.kv_bytes_per_token))
        self.transfer_s = transfer_s
        self.release_exports = release_exports
        engine = PlannedEngineSection(
            step_tokens=step_tokens,
            max_running_requests=running,
            decode_slowdown=slowdown,
            prefix_cache=PrefixCacheSection(enabled=cached, snapshot_every_tokens=snapshot_every),
        )
        seat = Seat(InstanceId("i"), ClusterName("c"), "pd", role)
        self.instance = StepInstance(self.loop, self, seat, profile, engine)

    def job(self, asked: Arrival) -> Job:
        return self.jobs.setdefault(asked.number, Job(asked))

    def serve(self, asked: Arrival, at_s: float = 0.0) -> Job:
        self.loop.at(at_s, self.instance.serve, self.job(asked))
        return self.job(asked)

    def export(self, asked: Arrival, at_s: float = 0.0) -> Job:
        self.loop.at(at_s, self.instance.export, self.job(asked))
        self._exports.add(self.job(asked))
        return self.job(asked)

    def reserve(self, asked: Arrival, at_s: float = 0.0) -> Job:
        self.loop.at(at_s, self.instance.reserve, self.job(asked))
        return self.job(asked)

    def run(self) -> None:
        self.loop.run()
        self.instance.check()

    def at(self, event: str, number: int) -> float:
        """When it happened; it must have happened once."""
        (time_s,) = [t for t, e, n in self.events if (e, n) == (event, number)]
        return time_s

    def told(self, number: int) -> list[str]:
        """All that was heard of a job, in order."""
        return [e for _, e, n in self.events if n == number]

    def empty(self) -> bool:
        """Nothing runs, waits or is held but by the cache."""
        load = self.instance.load()
        none = (load.waiting_tokens, load.waiting_requests, load.running_requests) == (0, 0, 0)
        return none and load.pages_free == self._pages

    def release(self, job: Job) -> None:
        """Now."""
        self.instance.release(job)
        self._released.add(job)

    def reserved(self, job: Job) -> None:
        self._note("reserved", job)
        if self.transfer_s is not None:
            self.loop.after(self.transfer_s, self._arrived, job)

    def prefill_started(self, job: Job, expected_s: float) -> None:
        self._note("prefill_started", job)
        self.expected_s[job.arrival.number] = expected_s

    def prefilled(self, job: Job) -> None:
        self._note("prefilled", job)
        if job in self._exports and self.release_exports:
            self.instance.release(job)

    def first_token(self, job: Job) -> None:
        self._note("first_token", job)

    def finished(self, job: Job) -> None:
        self._note("finished", job)

    def _arrived(self, job: Job) -> None:
        if job not in self._released:
            self.instance.begin_decode(job)

    def _note(self, event: str, job: Job) -> None:
        self.events.append((self.loop.now_s, event, job.arrival.number))

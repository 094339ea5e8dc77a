"""Runs a workload through a deployment under one policy, in simulated time. Knows neither files' formats nor plots."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from prfaas.config.deployment import DeploymentFile
from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.arrival import Arrival, Workload
from prfaas.planner.simulate.carried import Carried
from prfaas.planner.simulate.collector import rare_collections
from prfaas.planner.simulate.conservation import check
from prfaas.planner.simulate.fleet import Fleet
from prfaas.planner.simulate.fluid.instance import FluidInstance
from prfaas.planner.simulate.instance import Listener, SimulatedInstance
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.journeys import Journeys
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.opening import opening
from prfaas.planner.simulate.outcome import Fidelity, Outcome
from prfaas.planner.simulate.router import Router
from prfaas.planner.simulate.seat import Seat
from prfaas.planner.simulate.step.instance import StepInstance
from prfaas.planner.simulate.summary import outcome_of
from prfaas.planner.simulate.tally import Tally
from prfaas.planner.simulate.timescales import Timescales
from prfaas.planner.simulate.way import ways
from prfaas.policy.admit import Refusal
from prfaas.policy.knobs import knobs
from prfaas.policy.place import POLICIES
from prfaas.policy.profile import Profile
from prfaas.policy.view import PolicyParams

HEARTBEAT_S = 1.0
WINDOW_HEARTBEATS = 10
PROGRESS_REQUESTS = 100

INSTANCES: Mapping[Fidelity, Callable[..., SimulatedInstance]] = {"fluid": FluidInstance, "step": StepInstance}


def simulate(
    deployment: DeploymentFile,
    workload: Workload,
    policy: str,
    *,
    requests: int,
    seed: int,
    fidelity: Fidelity = "fluid",
    on_progress: Callable[[int], None] | None = None,
    admission: bool = False,
) -> Outcome:
    """The first `requests` requests of a workload, from an empty fleet until the last answer has ended.

    Roles and the first threshold are what the plan finds best for the policy. Without `admission`
    everything is taken in, so that policies compare on the same load; with it, what `prfaas.policy.admit` refuses by
    the deployment's TTFT objective does not come again. `seed` only names the run: nothing here is random, and the
    workload has its own. `on_progress(ended)` is called every hundred requests.

    Raises ConfigError for what cannot be simulated, CapacityError for a request that no instance can hold.
    """
    if policy not in POLICIES:
        raise ConfigError(f"no policy is called {policy!r}; take one of {', '.join(POLICIES)}")
    if requests < 1:
        raise ConfigError(f"{requests} requests make no simulation; ask for 1 or more")
    run = _Run(deployment, workload, policy, requests, fidelity, on_progress, admission=admission)
    with rare_collections():
        run.loop.run()
    return run.outcome(policy, fidelity, seed)


class _Run:
    """One simulation."""

    def __init__(
        self,
        deployment: DeploymentFile,
        workload: Workload,
        policy: str,
        requests: int,
        fidelity: Fidelity,
        on_progress: Callable[[int], None] | None,
        *,
        admission: bool,
    ) -> None:
        begin = opening(deployment, policy)
        self.loop = EventLoop()
        self._workload, self._requests, self._on_progress = workload, requests, on_progress
        self._tally = Tally(deployment.slo)
        self._ways = ways(deployment, self.loop)
        self._journeys = Journeys(self.loop, self._ways, self._tally, self._answered, self._ended)
        self._fleet = Fleet(begin.seats, _maker(deployment, self.loop, self._journeys, fidelity))
        self._journeys.fleet = self._fleet
        params = _params(deployment, begin.threshold_tokens, begin.deployment.output_tokens, admission=admission)
        self._router = Router(self.loop, self._fleet, self._ways, params, policy, admission=admission)
        self._timescales = Timescales(
            self.loop, self._fleet, self._ways, self._tally, begin, deployment.loops, params, retunes=policy == "prfaas"
        )
        self._carried = Carried(self._ways, self._tally.buckets)
        self._opening = begin
        self._heartbeats = 0
        self._expected = 0
        """Arrivals that are due: at most one of the workload's own, and one for each session that thinks."""
        self._arrivals: Iterator[Arrival] = workload.arrivals()
        self._next()
        self.loop.at(0.0, self._tick)

    def outcome(self, policy: str, fidelity: Fidelity, seed: int) -> Outcome:
        """Raises PrfaasError where the run contradicts itself."""
        if not self._tally.arrived:
            raise ConfigError("the workload has not one request; give one that has some")
        check(self._tally, self._router, self._journeys, self._fleet, self._ways)
        end_s = self._tally.last_s
        self._carried.sample(self.loop.now_s)
        return outcome_of(
            self._tally,
            self._carried,
            self._fleet,
            policy=policy,
            fidelity=fidelity,
            seed=seed,
            threshold_tokens=self._opening.threshold_tokens,
            end_s=end_s,
        )

    def _next(self) -> None:
        """Takes the workload's next arrival, if there is one and it is asked for."""
        wanted = self._tally.arrived + self._expected < self._requests
        if wanted and (arrival := next(self._arrivals, None)) is not None:
            self._expect(arrival, own=True)

    def _expect(self, arrival: Arrival, *, own: bool) -> None:
        self._expected += 1
        self.loop.at(arrival.at_s, self._arrives, arrival, own)

    def _arrives(self, arrival: Arrival, own: bool) -> None:
        now_s = self.loop.now_s
        self._expected -= 1
        self._tally.arrives(now_s)
        placed = self._router.place(arrival)
        if isinstance(placed, Refusal):
            self._tally.refuses(now_s)
        else:
            self._timescales.lengths.add(max(1, placed.uncached_tokens))
            self._tally.places(now_s, placed.remote)
            self._journeys.begin(Job(arrival), placed)
        if own:
            self._next()

    def _answered(self, job: Job) -> None:
        self._router.first_token(job.arrival)

    def _ended(self, job: Job) -> None:
        self._router.ended(job.arrival)
        if self._on_progress and self._tally.ended % PROGRESS_REQUESTS == 0:
            self._on_progress(self._tally.ended)
        if self._tally.arrived + self._expected < self._requests:
            follows = self._workload.answered(job.arrival, self.loop.now_s)
            if follows is not None:
                self._expect(follows, own=False)

    def _tick(self) -> None:
        """A heartbeat of everybody; those who look once a second do so now."""
        now_s = self.loop.now_s
        self._journeys.check()
        self._router.heartbeat()
        self._timescales.tick(self._router.view)
        self._router.retuned(self._timescales.tuning.threshold_tokens)
        if self._heartbeats % WINDOW_HEARTBEATS == 0:
            self._carried.sample(now_s)
            bucket = self._tally.buckets.at(max(0.0, now_s - HEARTBEAT_S))
            bucket.threshold_tokens = self._timescales.tuning.threshold_tokens
            bucket.waiting = self._fleet.waiting()
        self._heartbeats += 1
        if not self.loop.idle or self._journeys.in_transit:
            self.loop.at(self._heartbeats * HEARTBEAT_S, self._tick)


def _maker(
    deployment: DeploymentFile, loop: EventLoop, listener: Listener, fidelity: Fidelity
) -> Callable[[Seat, Profile], SimulatedInstance]:
    instance = INSTANCES[fidelity]
    return lambda seat, profile: instance(loop, listener, seat, profile, deployment.engine)


def _params(
    deployment: DeploymentFile, threshold_tokens: int, output_tokens: float, *, admission: bool
) -> PolicyParams:
    """The objective of the deployment's first tokens is `policy.slo_ttft_s`, or else the SLO's own."""
    params = knobs(deployment.policy, threshold_tokens)
    due_s = params.slo_ttft_s or deployment.slo.ttft_s
    return replace(params, output_tokens=round(output_tokens), slo_ttft_s=due_s if admission else None, in_time_s=due_s)

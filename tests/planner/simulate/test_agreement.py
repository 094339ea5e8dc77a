"""Both fidelities give the same answer: fluid jumps where step runs the live scheduler, and they agree within 5 %."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest

from prfaas.config.deployment import PlannedEngineSection
from prfaas.config.load_deployment import load_deployment
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival, Workload
from prfaas.planner.simulate.fluid.instance import FluidInstance
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.outcome import Fidelity, Outcome
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.seat import Seat
from prfaas.planner.simulate.step.instance import StepInstance
from prfaas.planner.simulate.workloads.build import build_workload
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile

CASE_STUDY = load_deployment(Path(__file__).parents[3] / "configs" / "case-study.yaml")
PLANNED_REQ_S = 3.24
"""Table 6 of the PrfaaS paper."""
ANSWER_TOKENS = 200
IDLE_S = 15.0
"""Of a session, before its next turn."""
AGAIN = 0.85
"""Of the turns, that are not a session's first, if there is one that is idle."""
SEEDS, TURNS = (1, 2, 3), 250
BESIDE = Profile("h20", PrefillCurve(0.4655, 1.305e-4, 2.87e-10), DecodeCurve(((1, 0.025),)), 17_100, 182.8e6, 1e11)


class Conversations:
    """Turns at times that do not depend on answers, each of which repeats the one before and its answer.

    Many ask for so little that is new that it is prefilled where it decodes, beside other decodes.
    """

    def __init__(self, *, rate_req_s: float, turns: int, seed: int) -> None:
        self._rng = Random(seed)
        self._rate_req_s = rate_req_s
        self._turns = turns

    def arrivals(self) -> Iterator[Arrival]:
        at_s, said, last_s = 0.0, list[int](), list[float]()
        for number in range(self._turns):
            at_s += self._rng.expovariate(self._rate_req_s)
            idle = [session for session, then_s in enumerate(last_s) if at_s - then_s > IDLE_S]
            session = self._rng.choice(idle) if idle and self._rng.random() < AGAIN else len(said)
            if session == len(said):
                said.append(0)
                last_s.append(0.0)
            tokens = said[session] + round(self._rng.lognormvariate(7.3 if said[session] else 9.2, 0.7)) + 1
            said[session], last_s[session] = tokens + ANSWER_TOKENS, at_s
            whole, with_answer = tokens // ID_TOKENS, (tokens + ANSWER_TOKENS) // ID_TOKENS
            names = tuple(session * 10_000 + i for i in range(with_answer))
            yield Arrival(number, at_s, tokens, ANSWER_TOKENS, names[:whole], session, names[whole:])

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:  # noqa: ARG002 — turns have times of their own
        return None


class Times:
    """A listener that notes when prefills began and ended."""

    loop: EventLoop

    def reserved(self, job: Job) -> None: ...

    def prefill_started(self, job: Job, expected_s: float) -> None:  # noqa: ARG002 — a listener is told
        job.prefill_started_s = self.loop.now_s

    def prefilled(self, job: Job) -> None:
        job.prefilled_s = self.loop.now_s

    def first_token(self, job: Job) -> None: ...

    def finished(self, job: Job) -> None: ...


def both(workload: Callable[[], Workload], requests: int, seed: int) -> tuple[Outcome, Outcome]:
    def run(fidelity: Fidelity) -> Outcome:
        return simulate(CASE_STUDY, workload(), "prfaas", requests=requests, seed=seed, fidelity=fidelity)

    return run("step"), run("fluid")


def check(step: Outcome, fluid: Outcome) -> None:
    assert step.finished == fluid.finished == step.requests
    assert fluid.throughput_req_s == pytest.approx(step.throughput_req_s, rel=0.05)
    assert fluid.ttft_s.mean == pytest.approx(step.ttft_s.mean, rel=0.05)
    assert fluid.ttft_s.p90 == pytest.approx(step.ttft_s.p90, rel=0.05)
    assert fluid.tpot_ms.mean == pytest.approx(step.tpot_ms.mean, rel=0.05)
    assert fluid.cached_fraction == pytest.approx(step.cached_fraction, rel=0.05)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_case_study_under_load(seed: int) -> None:
    rate_req_s = 0.8 * PLANNED_REQ_S
    step, fluid = both(lambda: build_workload(CASE_STUDY.workload, rate_req_s=rate_req_s, seed=seed), 120, seed)
    assert step.queue_s.mean > 0.1
    check(step, fluid)


def test_conversations_whose_turns_are_cached() -> None:
    """On average over runs: the policy answers to small differences, and one other placement makes another run."""
    runs = [both(partial(Conversations, rate_req_s=3.0, turns=TURNS, seed=seed), TURNS, seed) for seed in SEEDS]
    assert all(step.cached_fraction > 0.3 for step, _ in runs)
    steps, fluids = (_sums(outcomes) for outcomes in zip(*runs, strict=True))
    assert fluids == pytest.approx(steps, rel=0.05)


def _sums(outcomes: Sequence[Outcome]) -> list[float]:
    rows = [(o.throughput_req_s, o.ttft_s.mean, o.ttft_s.p90, o.tpot_ms.mean, o.cached_fraction) for o in outcomes]
    return [sum(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("tokens", [300, 1000, 8000])
def test_prompts_beside_a_decode(tokens: int) -> None:
    """With an overhead of many decode steps, for a part of which the live scheduler pauses."""
    alone_s = BESIDE.prefill.seconds(tokens)
    step_s, fluid_s = (_mean_prefill_s(instance, tokens, 4 * alone_s) for instance in (StepInstance, FluidInstance))
    assert step_s > 1.2 * alone_s
    assert fluid_s == pytest.approx(step_s, rel=0.05)


def _mean_prefill_s(instance: type[StepInstance] | type[FluidInstance], tokens: int, every_s: float) -> float:
    """Of twenty prompts, one after another, beside one long answer."""
    loop, times = EventLoop(), Times()
    times.loop = loop
    seat = Seat(InstanceId("i"), ClusterName("c"), "pd", "decode")
    served = instance(loop, times, seat, BESIDE, PlannedEngineSection())
    loop.at(0.0, served.serve, Job(Arrival(0, 0.0, 64, round(22 * every_s / 0.0125))))
    jobs = [Job(Arrival(number, 1.0 + number * every_s, tokens, 1)) for number in range(1, 21)]
    for job in jobs:
        loop.at(job.arrival.at_s, served.serve, job)
    loop.run()
    return sum(job.prefilled_s - job.prefill_started_s for job in jobs) / len(jobs)

"""What a simulated request costs at fidelity `fluid`: one instance prefills, another decodes, nothing else is there.

    python -m benchmarks.fluid_instances [--requests N] [--profile]

Prompts are conversations of a few turns, of which a third is cached, on the paper's 1T model (configs/profiles).
"""

import argparse
import cProfile
import pstats
import random
import time
from collections.abc import Iterator
from pathlib import Path

from prfaas.config.deployment import PlannedEngineSection
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.planner.profiles import read_profile
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival
from prfaas.planner.simulate.fluid.instance import FluidInstance
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.seat import Seat
from prfaas.policy.view import Role

PROFILES = Path(__file__).parents[1] / "configs/profiles"
MEAN_GAP_S = 1.5
FIRST_BLOCKS = 16
"""Of a conversation's first prompt, on average; each further turn adds half as many."""
OUTPUT_TOKENS = 340


class Pair:
    """Pages first, then the prompt, then the answer; KV crosses in no time."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self._prefill = self._instance("prefill", "paper-1t-h200.yaml")
        self._decode = self._instance("decode", "paper-1t-h20.yaml")
        self.finished_jobs = 0

    def come(self, arrivals: Iterator[Arrival]) -> None:
        """Takes in the next one when it comes."""
        arrival = next(arrivals, None)
        if arrival is not None:
            self.loop.at(arrival.at_s, self._submit, arrival, arrivals)

    def reserved(self, job: Job) -> None:
        self._prefill.export(job)

    def prefill_started(self, job: Job, expected_s: float) -> None:
        pass

    def prefilled(self, job: Job) -> None:
        self._prefill.release(job)
        self._decode.begin_decode(job)

    def first_token(self, job: Job) -> None:
        pass

    def finished(self, job: Job) -> None:
        job.finished_s = self.loop.now_s
        self.finished_jobs += 1

    def _submit(self, arrival: Arrival, arrivals: Iterator[Arrival]) -> None:
        for instance in (self._prefill, self._decode):
            instance.cached_tokens(arrival)
            instance.load()
        self._decode.reserve(Job(arrival))
        self.come(arrivals)

    def _instance(self, role: Role, profile: str) -> FluidInstance:
        seat = Seat(InstanceId(role), ClusterName("here"), "pd", role)
        return FluidInstance(self.loop, self, seat, read_profile(PROFILES / profile), PlannedEngineSection())


def conversations(requests: int, rng: random.Random) -> Iterator[Arrival]:
    """Half of the requests go on from one of the last fifty."""
    recent: list[tuple[int, ...]] = []
    at_s, name = 0.0, 1
    for number in range(requests):
        at_s += rng.expovariate(1 / MEAN_GAP_S)
        before = rng.choice(recent) if recent and rng.random() < 0.5 else (0,)
        added = 1 + int(rng.expovariate((2 if len(before) > 1 else 1) / FIRST_BLOCKS))
        blocks = (*before, *range(name, name + added))
        name += added
        recent = [*recent[-49:], blocks] if len(blocks) < 200 else recent
        tail = rng.randrange(ID_TOKENS)
        yield Arrival(number, at_s, len(blocks) * ID_TOKENS + tail, OUTPUT_TOKENS, blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    options = parser.parse_args()
    pair = Pair()
    pair.come(conversations(options.requests, random.Random(0)))
    profiler = cProfile.Profile()
    started = time.process_time()
    if options.profile:
        profiler.runcall(pair.loop.run)
    else:
        pair.loop.run()
    seconds = time.process_time() - started
    assert pair.finished_jobs == options.requests
    print(f"{options.requests} requests: {seconds / options.requests * 1e6:.0f} us each, {seconds:.2f} s in all")
    if options.profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()

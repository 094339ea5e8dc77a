"""The first requests of a workload, for what is planned before any is played. Knows no times: answers are immediate."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from prfaas.config.deployment import WorkloadSection
from prfaas.planner.simulate.arrival import Arrival, Workload
from prfaas.planner.simulate.workloads.build import build_workload


def first_prompts(section: WorkloadSection, count: int) -> list[Arrival]:
    """At most `count`; of sessions all first turns, then all second ones, and so on. Raises ConfigError for a trace
    that cannot be used.
    """
    return list(islice(_drawn(build_workload(section, rate_req_s=1.0, seed=0)), count))


def _drawn(workload: Workload) -> Iterator[Arrival]:
    further: deque[Arrival] = deque()
    for first in workload.arrivals():
        yield first
        if (turn := workload.answered(first, first.at_s)) is not None:
            further.append(turn)
    while further:
        last = further.popleft()
        yield last
        if (turn := workload.answered(last, last.at_s)) is not None:
            further.append(turn)

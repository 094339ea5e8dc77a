"""The requests that decode together, in jumps: any number of equal steps is one formula. Knows no pages, no prompts.

While nobody joins or leaves, the k-th step from now takes `base + extra + per_context·(contexts + k·n)`: a sum of
squares at most, solved for time or for steps. Whoever joins does so where a step ends, as in continuous batching.
"""

from heapq import heappop, heappush
from math import ceil, sqrt

from prfaas.planner.simulate.fluid.task import Task
from prfaas.policy.profile import DecodeCurve

_SAME_STEPS = 1e-6
"""Rounding of floats: so near to a step's end is its end."""


class Batch:
    """Each step gives each of its requests one token."""

    def __init__(self, curve: DecodeCurve) -> None:
        self._curve = curve
        self.size = 0
        self.boundary_s = 0.0
        """Where a step ended, or will end, with everything before it counted."""
        self._steps = 0
        """That had ended by then, since the beginning."""
        self._contexts = 0
        """Tokens that the step after it looks at."""
        self._base_s = 0.0
        self._extra_s = 0.0
        self._ends: list[tuple[int, int, Task]] = []

    @property
    def step_s(self) -> float:
        """The next step's seconds, without what is beside it."""
        return self._base_s + self._contexts * self._curve.per_context_token_s

    def settle(self, now_s: float) -> float:
        """Counts all steps that have begun by `now_s`, and returns where the last of them ends: now at the earliest."""
        if not self.size:
            self.boundary_s = max(self.boundary_s, now_s)
        elif self.boundary_s < now_s:
            self._pass(ceil(self._steps_in(now_s - self.boundary_s) - _SAME_STEPS))
        return self.boundary_s

    def slow(self, extra_s: float) -> None:
        """From the boundary on each step takes so much longer: a prefill is beside it."""
        self._extra_s = extra_s

    def hold_until(self, time_s: float) -> None:
        """No step begins before: an instance's steps are one after another."""
        self.boundary_s = max(self.boundary_s, time_s)

    def join(self, task: Task, tokens: int) -> None:
        """At the boundary; `tokens` steps, at least one, make the rest of its answer."""
        task.joined_step, task.ends_step = self._steps, self._steps + tokens
        heappush(self._ends, (task.ends_step, task.number, task))
        self._changed(1, task.prompt_tokens + 1)

    def leave(self, task: Task) -> None:
        """At the boundary, before its end."""
        task.ends_step = -1
        self._changed(-1, -(task.prompt_tokens + 1 + self._steps - task.joined_step))

    def next_end_s(self) -> float | None:
        """When the next request ends, if nobody comes; None without any."""
        while self._ends and self._ends[0][2].ends_step < 0:
            heappop(self._ends)
        if not self._ends:
            return None
        steps = self._ends[0][0] - self._steps
        assert steps >= 0, "an answer's end was passed over"
        return self.boundary_s + self._seconds(steps)

    def ended(self, now_s: float) -> list[Task]:
        """Takes out those that have their last token by now, in the order of their joining."""
        self.settle(now_s)
        tasks = []
        while self._ends and self._ends[0][0] <= self._steps and self.boundary_s <= now_s + _SAME_STEPS * self.step_s:
            task = heappop(self._ends)[2]
            if task.ends_step >= 0:
                self.leave(task)
                tasks.append(task)
        return tasks

    def _changed(self, requests: int, contexts: int) -> None:
        self.size += requests
        self._contexts += contexts
        self._base_s = self._curve.step_s(self.size) if self.size else 0.0

    def _pass(self, steps: int) -> None:
        self.boundary_s += self._seconds(steps)
        self._steps += steps
        self._contexts += steps * self.size

    def _seconds(self, steps: int) -> float:
        growth_s = self._curve.per_context_token_s * self.size
        return steps * (self.step_s + self._extra_s + growth_s * (steps - 1) / 2)

    def _steps_in(self, seconds: float) -> float:
        """The inverse of `_seconds`, for any positive number."""
        half_growth_s = self._curve.per_context_token_s * self.size / 2
        first_s = self.step_s + self._extra_s - half_growth_s
        return 2 * seconds / (first_s + sqrt(first_s * first_s + 4 * half_growth_s * seconds))

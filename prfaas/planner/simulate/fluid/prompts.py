"""The prompts that an instance is computing, in steps whose budget they share. Knows no pages and no decodes."""

from collections.abc import Iterator
from dataclasses import dataclass

from prfaas.planner.simulate.fluid.task import Task
from prfaas.policy.profile import PrefillCurve
from prfaas.scheduler.shares import MAX_SHARES, Want, divide


@dataclass(frozen=True, slots=True)
class Turn:
    """What is computed next, in one piece."""

    chunks: tuple[tuple[Task, int], ...]
    """Prompts, and tokens of each."""
    tokens: int
    work_s: float
    """Of an instance that does nothing else."""
    overheads_s: float
    """On top: of the prompts that begin."""


class Prompts:
    """Those that went without for longest come first, as in the live scheduler."""

    def __init__(self, curve: PrefillCurve, page_tokens: int) -> None:
        self._curve = curve
        self._page_tokens = page_tokens
        self._tasks: list[Task] = []
        self._steps = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        """In order of arrival."""
        return iter(self._tasks)

    def add(self, task: Task) -> None:
        task.last_served = self._steps
        self._tasks.append(task)
        if len(self._tasks) > 1 and self._tasks[-2].number > task.number:
            self._tasks.sort(key=lambda t: t.number)

    def remove(self, task: Task) -> None:
        self._tasks.remove(task)

    def remaining_tokens(self) -> int:
        return sum(task.remaining_tokens for task in self._tasks)

    def turn(self, budget: int) -> Turn:
        """The next `budget` tokens, divided as `prfaas.scheduler` divides a step; there must be a prompt."""
        self._steps += 1
        first = sorted(self._tasks, key=_last_served)[:MAX_SHARES] if len(self._tasks) > 1 else self._tasks
        lengths = divide([Want(t.computed_tokens, t.remaining_tokens) for t in first], budget, self._page_tokens)
        chunks, tokens, work_s, overheads_s = [], 0, 0.0, 0.0
        for task, length in zip(first, lengths, strict=True):
            if length:
                task.last_served = self._steps
                chunks.append((task, length))
                tokens += length
                work_s += self._curve.work(task.computed_tokens, task.computed_tokens + length)
                overheads_s += 0.0 if task.begun else self._curve.overhead
        return Turn(tuple(chunks), tokens, work_s, overheads_s)

    def expected_s(self, task: Task) -> float:
        """Until a prompt is computed if nothing comes: all that are here have equal shares."""
        own_s = self._rest_s(task)
        return sum(min(own_s, self._rest_s(other)) for other in self._tasks)

    def _rest_s(self, task: Task) -> float:
        overhead_s = 0.0 if task.begun else self._curve.overhead
        return overhead_s + self._curve.work(task.computed_tokens, task.prompt_tokens)


def _last_served(task: Task) -> int:
    return task.last_served

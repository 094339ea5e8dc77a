"""Who waits on an instance for memory or a place, in order of arrival. Does not know what runs."""

from collections.abc import Mapping

from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.fluid.memory import TaskMemory
from prfaas.planner.simulate.fluid.task import Task
from prfaas.scheduler.sequence import Phase


class Line:
    """One that does not fit holds back those behind it; one whose prefix another is computing holds back nobody."""

    def __init__(self, memory: TaskMemory, cache: PrefixCache) -> None:
        self._memory = memory
        self._cache = cache
        self._waiting: dict[int, Task] = {}
        self._refused: tuple[int, int, int, int] | None = None
        """Who did not fit last, and in what circumstances."""
        self.tokens = 0
        """Of all prompts in it, that will have to be computed, as far as could be told when they came."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: Task) -> None:
        """At its place by arrival, from which it may have been taken before."""
        task.phase = Phase.WAITING
        task.begun = False
        task.expected_tokens = 0 if task.imports_prompt else self._uncached(task)
        self.tokens += task.expected_tokens
        last = next(reversed(self._waiting), 0)
        self._waiting[task.number] = task
        if last > task.number:
            self._waiting = dict(sorted(self._waiting.items()))

    def remove(self, task: Task) -> None:
        del self._waiting[task.number]
        self.tokens -= task.expected_tokens

    def next(self, computing: Mapping[BlockHash, int], keep_free: int, *, alone: bool) -> Task | None:
        """The first that may begin now, with its memory; `computing`: prefixes that are being computed, and their
        blocks. `alone`: nothing holds memory, so that the first gets in whatever is cached."""
        for task in self._waiting.values():
            if computing and _computed_elsewhere(task, computing):
                continue
            if not self._reserve(task, keep_free, alone):
                return None
            self.remove(task)
            return task
        return None

    def _reserve(self, task: Task, keep_free: int, alone: bool) -> bool:
        attempt = task.number, keep_free, self._cache.available, self._cache.version
        if attempt == self._refused and not alone:
            return False
        if self._memory.reserve(task, keep_free):
            return True
        self._refused = attempt
        # A snapshot to go on from needs room beside the state itself. Alone, one that has no such room does without.
        return alone and self._memory.reserve(task, 0, reuse=False)

    def _uncached(self, task: Task) -> int:
        return task.prompt_tokens - (self._memory.cached_tokens(task.job.arrival) if task.names else 0)


def _computed_elsewhere(task: Task, computing: Mapping[BlockHash, int]) -> bool:
    """Somebody is computing a prefix of it to the point where it could go on."""
    usable = 0 if task.imports_prompt else task.usable_blocks
    return any(blocks <= usable and task.names[blocks - 1] == name for name, blocks in computing.items())

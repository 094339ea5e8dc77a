"""What waits for the disk tier's worker: loads first, and stores one entry at a time. Knows no files."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prfaas.engine.disk_format import Key
from prfaas.engine.disk_store import Entry


@dataclass(frozen=True, slots=True)
class Done:
    """Worker → loop: a load or a store has ended, for each entry well or not."""

    entries: tuple[Entry, ...]
    loaded: bool
    """False: they were to be stored."""
    ok: tuple[bool, ...]
    seconds: float = field(default=0.0, compare=False)
    """That the worker took, without waits in the queue and for the loop."""


class Job:
    """Entries to be loaded or stored, in order; an entry whose needed one failed before it fails too."""

    def __init__(self, entries: Sequence[Entry], loads: bool) -> None:
        self.entries = tuple(entries)
        self.loads = loads
        self.num_pages = sum(len(entry.pages) for entry in entries)
        self.seconds = 0.0
        """What it took so far, as its worker says."""
        self._ok: list[bool] = []
        self._failed: set[Key] = set()

    @property
    def ended(self) -> bool:
        return len(self._ok) == len(self.entries)

    def step(self, do: Callable[[Entry], bool]) -> None:
        """Does the next entry."""
        entry = self.entries[len(self._ok)]
        ok = entry.needs not in self._failed and do(entry)
        if not ok:
            self._failed.add(entry.key)
        self._ok.append(ok)

    def done(self) -> Done:
        """How it ended; what was not reached counts as failed."""
        rest = len(self.entries) - len(self._ok)
        return Done(self.entries, self.loads, (*self._ok, *[False] * rest), self.seconds)


class Queue:
    """Jobs from one thread to another. Loads and stores each are taken while fewer than `limit_pages` wait."""

    def __init__(self, limit_pages: int) -> None:
        self._limit_pages = limit_pages
        self._changed = threading.Condition()
        self._waiting: dict[bool, deque[Job]] = {True: deque(), False: deque()}
        self._pages = {True: 0, False: 0}
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, job: Job) -> bool:
        """Whether there was room; a job of any size is taken if little waits."""
        with self._changed:
            if self._closed or self._pages[job.loads] >= self._limit_pages:
                return False
            self._waiting[job.loads].append(job)
            self._pages[job.loads] += job.num_pages
            self._changed.notify()
            return True

    def first(self, wait_s: float) -> Job | None:
        """The job to go on with, which stays here; waits for one, unless closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._waiting.values()), wait_s)
            waiting = self._waiting[True] or self._waiting[False]
            return waiting[0] if waiting else None

    def remove(self, job: Job) -> None:
        """Takes out a job that `first` gave."""
        with self._changed:
            removed = self._waiting[job.loads].popleft()
            assert removed is job
            self._pages[job.loads] -= job.num_pages

    def close(self) -> None:
        """Takes no more; what waits stays."""
        with self._changed:
            self._closed = True
            self._changed.notify()

"""Cached prefixes on disk, which survive restarts: what the engine's loop calls, and the thread that does the IO.

Pages are written from and read into the pool itself, without holding the interpreter's lock. Knows nothing of the
prefix index: who calls it decides what to store, and keeps pages from being used otherwise until they come back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prfaas.cache.changes import Part
from prfaas.core.ids import BlockHash
from prfaas.engine.disk_folder import Folder
from prfaas.engine.disk_format import Key, scope_of
from prfaas.engine.disk_queue import Done, Job, Queue
from prfaas.engine.disk_store import DiskCounts, Entry, EntryStore

log = logging.getLogger(__name__)
_ENDED = object()


class DiskTier:
    """The tier of one instance; others, also in other processes, may use the same directory.

    `fingerprint` names the model and `format_key` all else that says what a page's bytes mean: page size, tokens of a
    page, and the version of the layout of KV and states in pages. `page` gives the bytes of a page of the pool,
    contiguous and writable. `wake` is called from the worker's thread whenever `take` has something.
    Raises ConfigError when `directory` cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit_bytes: int,
        fingerprint: str,
        format_key: str,
        page: Callable[[int], memoryview],
        wake: Callable[[], None],
        queue_pages: int = 1024,
        rescan_s: float = 60.0,
        close_s: float = 5.0,
    ) -> None:
        folder = Folder(directory, fingerprint, scope_of(fingerprint, format_key))
        self._store = EntryStore(folder, limit_bytes, page)
        self._wake = wake
        self._queue = Queue(queue_pages)
        self._done: deque[Done] = deque()
        self._rescan_s = rescan_s
        self._close_s = close_s
        self._give_up_at = float("inf")
        self.scanned = threading.Event()
        """Set when all that was on disk at the start is known."""
        self._worker = threading.Thread(target=self._run, name="disk-tier", daemon=True)
        self._worker.start()

    @property
    def counts(self) -> DiskCounts:
        """Goes on counting; read it, do not write it."""
        return self._store.counts

    @property
    def off(self) -> str | None:
        """Why nothing is stored any more, if that is so."""
        return self._store.off

    @property
    def num_entries(self) -> int:
        return len(self._store.index)

    @property
    def num_bytes(self) -> int:
        """Taken on disk by this model and page format, in whole file system blocks."""
        return self._store.index.num_bytes

    def holds(self, part: Part, block_hash: BlockHash) -> bool:
        """Whether a load would probably succeed; it may not, since others may delete files."""
        # One look into a dict, which needs no lock beside a thread that changes it.
        return Key(part, block_hash) in self._store.index

    def store(self, entries: Sequence[Entry]) -> bool:
        """Writes entries, parents first, later: their pages must not change until `take` gives them back.

        False, and counted as dropped, when too much waits already or nothing is stored any more.
        """
        return self._put(Job(entries, loads=False), wanted=self.off is None)

    def load(self, entries: Sequence[Entry]) -> bool:
        """Reads entries of one prefix, parents first, into their pages, later: see `take`. False as for `store`."""
        return self._put(Job(entries, loads=True), wanted=True)

    def take(self) -> list[Done]:
        """What has ended since the last call, in the order in which it ended. Every job that was accepted ends."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def close(self) -> None:
        """Ends the worker. Stores that wait are finished within `close_s` or dropped, loads are dropped."""
        self._give_up_at = time.monotonic() + self._close_s
        self._queue.close()
        self._worker.join(2 * self._close_s)
        if self._worker.is_alive():
            log.error("the disk does not answer; the disk tier's thread is left behind")

    def _put(self, job: Job, wanted: bool) -> bool:
        if wanted and self._queue.put(job):
            return True
        self.counts.dropped += len(job.entries)
        return False

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            # Nobody looks after this thread: pages that wait for it must come back, and people must know.
            log.exception("the disk tier ends by a fault of ours")
            self._store.off = "a fault of ours; see the log"
        finally:
            self._queue.close()
            while (job := self._queue.first(0)) is not None:
                self._finish(job)

    def _work(self) -> None:
        scan: Iterator[None] | None = self._store.scan()
        scan_at = 0.0
        while (job := self._next(0 if scan else scan_at - time.monotonic())) is not None or not self._queue.closed:
            if job is not None:
                self._advance(job)
            if scan is None and time.monotonic() >= scan_at:
                scan = self._store.scan()
            if scan is not None and next(scan, _ENDED) is _ENDED:
                scan, scan_at = None, time.monotonic() + self._rescan_s
                self.scanned.set()

    def _next(self, wait_s: float) -> Job | None:
        """What to go on with; None when nothing came, or when it is time to give up."""
        job = self._queue.first(max(0.0, wait_s))
        return job if time.monotonic() < self._give_up_at else None

    def _advance(self, job: Job) -> None:
        """Loads go on to their end, stores by one entry, so that a load waits for one write at most."""
        started = time.monotonic()
        if not job.loads and not job.ended:
            job.step(self._store.store)
        while job.loads and not job.ended and not self._queue.closed:
            job.step(self._store.load)
        job.seconds += time.monotonic() - started
        if job.loads or job.ended:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        self._queue.remove(job)
        done = job.done()
        if done.loaded:
            self.counts.hits += any(done.ok)
        else:
            self.counts.failed += done.ok.count(False)
        self._done.append(done)
        self._wake()

"""The disk tier's decisions and deeds, one entry at a time, for one thread. Knows nothing of queues and threads."""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prfaas.cache.changes import Part
from prfaas.core.ids import BlockHash
from prfaas.engine.disk_folder import Folder, Found
from prfaas.engine.disk_format import Header, Key, needed_by, occupied_bytes, payload_digest
from prfaas.engine.disk_index import Index

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """The KV of one block (one page), or the snapshot at one block's end, and the pages of the pool that hold it."""

    part: Part
    block_hash: BlockHash
    parent: BlockHash | None
    """The block before; None for the first of a prompt."""
    pages: tuple[int, ...]

    @property
    def key(self) -> Key:
        return Key(self.part, self.block_hash)

    @property
    def needs(self) -> Key | None:
        """The entry without which this one is useless."""
        return needed_by(self.key, self.parent)


@dataclass(slots=True)
class DiskCounts:
    """What the tier did since it started; `foreign` is what the newest scan found."""

    stored: int = 0
    stored_bytes: int = 0
    loaded: int = 0
    loaded_bytes: int = 0
    hits: int = 0
    """Loads that brought at least one entry."""
    missing: int = 0
    """Entries to be loaded whose files others had deleted."""
    corrupt: int = 0
    """Entries to be loaded that did not agree with their digests; they are deleted."""
    foreign: int = 0
    """Things in the folder that are no whole entries of this model and format."""
    dropped: int = 0
    """Entries that were not taken for storing or loading: too much waited, or the tier was off or closed."""
    failed: int = 0
    """Entries that could not be stored or read: no room among what they need, the end of the process, faults."""
    evicted: int = 0


class EntryStore:
    """Entries on disk, within `limit_bytes` of whole file system blocks.

    `page` gives the bytes of a page of the pool; `now_ns` times that compare with those of files.
    """

    def __init__(
        self,
        folder: Folder,
        limit_bytes: int,
        page: Callable[[int], memoryview],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.index = Index()
        self.counts = DiskCounts()
        self.off: str | None = None
        """Why nothing is stored any more."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._page = page
        self._now_ns = now_ns
        self._scanned = False

    def store(self, entry: Entry) -> bool:
        """Whether the entry is on disk now."""
        if self.off is not None:
            return False
        try:
            return self._refreshed(entry.key) or self._write(entry)
        except (IsADirectoryError, FileNotFoundError):
            return False  # Something foreign has the entry's name, or somebody deletes the folder just now.
        except OSError as error:
            self._switch_off("storing", error)
            return False

    def load(self, entry: Entry) -> bool:
        """Whether the entry's pages hold it now; if not they hold anything, and the entry is forgotten."""
        pages = self._views(entry)
        try:
            if self._folder.read(entry.key, pages):
                self._loaded(entry, pages)
                return True
            self._delete_corrupt(entry.key)
        except FileNotFoundError:
            self.counts.missing += 1
        except OSError as error:
            self.counts.failed += 1
            log.warning("%s cannot be read from %s: %s", entry.block_hash.hex(), self._folder.path, error)
        self.index.remove(entry.key)
        return False

    def scan(self) -> Iterator[None]:
        """Finds what this or other processes stored or deleted; it pauses after each of some hundred steps."""
        foreign, gone = 0, set(self.index)
        for shelf in self._folder.shelves():
            if self._scanned and self.off is not None:
                return
            try:
                found, others = self._folder.listing(shelf)
                gone.difference_update(item.key for item in found)
                foreign += others + sum(not self._noted(item) for item in found)
            except OSError as error:
                self._switch_off("scanning", error)
            yield
        for key in gone:
            self.index.remove(key)
        self.counts.foreign, self._scanned = foreign, True
        self._evict_for(0, keep=None)

    def _refreshed(self, key: Key) -> bool:
        """Whether the entry is there already, and so is marked as used."""
        if key not in self.index:
            return False
        try:
            self._folder.touch(key, now := self._now_ns())
        except FileNotFoundError:
            self.index.remove(key)
            return False
        self.index.touch(key, now)
        return True

    def _write(self, entry: Entry) -> bool:
        pages = self._views(entry)
        payload_bytes, now = sum(page.nbytes for page in pages), self._now_ns()
        if entry.needs is not None:
            self.index.touch(entry.needs, now)
        if not self._evict_for(occupied_bytes(payload_bytes), keep=entry.needs):
            return False
        header = Header(entry.key, entry.parent, self._folder.scope, payload_bytes, payload_digest(pages))
        self._folder.write(header, pages)
        self.index.add(entry.key, entry.needs, occupied_bytes(payload_bytes), now)
        self.counts.stored += 1
        self.counts.stored_bytes += payload_bytes
        return True

    def _loaded(self, entry: Entry, pages: list[memoryview]) -> None:
        self.counts.loaded += 1
        self.counts.loaded_bytes += sum(page.nbytes for page in pages)
        now = self._now_ns()
        self.index.touch(entry.key, now)
        try:
            self._folder.touch(entry.key, now)
        except OSError as error:
            log.debug("the use of %s is not remembered: %s", entry.block_hash.hex(), error)

    def _delete_corrupt(self, key: Key) -> None:
        self.counts.corrupt += 1
        log.warning("%s in %s is corrupt; it is deleted", key.block_hash.hex(), self._folder.path)
        try:
            self._folder.delete(key)
        except OSError as error:
            self._switch_off("deleting", error)

    def _evict_for(self, num_bytes: int, keep: Key | None) -> bool:
        """Whether there is room for `num_bytes` more; deletes what was used the longest time ago, but not `keep`."""
        # Before the first scan ends it is not known what needs what.
        while self._scanned and self.off is None and self.index.num_bytes + num_bytes > self._limit_bytes:
            oldest = self.index.oldest()
            if oldest is None or oldest == keep:
                return False
            try:
                self._folder.delete(oldest)
            except OSError as error:
                self._switch_off("deleting", error)
                return False
            self.index.remove(oldest)
            self.counts.evicted += 1
        return True

    def _noted(self, found: Found) -> bool:
        """False for a file that the scan found and that is no entry of ours."""
        if found.key in self.index:
            self.index.touch(found.key, found.used_ns)
            return True
        try:
            header = self._folder.header(found)
        except FileNotFoundError:
            return True  # Deleted meanwhile.
        except OSError:
            return False
        if header is not None:
            needs, num_bytes = needed_by(found.key, header.parent), occupied_bytes(header.payload_bytes)
            self.index.add(found.key, needs, num_bytes, found.used_ns)
        return header is not None

    def _switch_off(self, doing: str, error: OSError) -> None:
        if self.off is None:
            self.off = f"{doing} failed: {errno.errorcode.get(error.errno or 0, 'EIO')} {error.strerror}"
            log.error("%s: %s; nothing more is stored there until a restart", self._folder.path, self.off)

    def _views(self, entry: Entry) -> list[memoryview]:
        return [self._page(page) for page in entry.pages]

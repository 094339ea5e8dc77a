"""A small pool of pages, and chains of entries in it, for the disk tier's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

from xxhash import xxh3_128_digest

from prfaas.core.ids import BlockHash
from prfaas.engine.disk_folder import Folder
from prfaas.engine.disk_format import HEADER_BYTES, Key, file_name, scope_of
from prfaas.engine.disk_store import Entry, EntryStore

PAGE_BYTES = 96
NUM_PAGES = 64
FILE_BYTES = HEADER_BYTES + PAGE_BYTES
ON_DISK_BYTES = 4096
"""Of each entry of this pool: one block of a file system."""
FINGERPRINT = "model-1"
FORMAT = "float32"
NO_LIMIT = 1 << 30


class Pool:
    """Pages in one block of memory, as an arena has them."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(NUM_PAGES * PAGE_BYTES))

    def page(self, number: int) -> memoryview:
        return self._memory[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]

    def fill(self, entry: Entry) -> None:
        """Writes what `content` says into the entry's pages."""
        for page, data in zip(entry.pages, content(entry), strict=True):
            self.page(page)[:] = data

    def clear(self, entry: Entry) -> None:
        for page in entry.pages:
            self.page(page)[:] = bytes(PAGE_BYTES)

    def has(self, entry: Entry) -> bool:
        return [bytes(self.page(page)) for page in entry.pages] == content(entry)


def name(text: str) -> BlockHash:
    return BlockHash(xxh3_128_digest(text.encode()))


def content(entry: Entry) -> list[bytes]:
    """Bytes that differ between entries and between the pages of one."""
    seeds = [f"{entry.part} {entry.block_hash.hex()} {i}".encode() for i in range(len(entry.pages))]
    return [xxh3_128_digest(seed) * (PAGE_BYTES // 16) for seed in seeds]


def kv(text: str, parent: str | None = None, page: int = 0) -> Entry:
    return Entry("kv", name(text), name(parent) if parent is not None else None, (page,))


def state(text: str, *pages: int) -> Entry:
    return Entry("state", name(text), None, pages or (60, 61, 62))


def chain(text: str, length: int) -> list[Entry]:
    """Blocks `text`0, `text`1, …, each in the page of its number."""
    return [kv(f"{text}{i}", f"{text}{i - 1}" if i else None, i) for i in range(length)]


def ticking(step_ns: int = 10**9) -> Callable[[], int]:
    """A clock that goes on by a second at each look."""

    def ticks() -> Iterator[int]:
        now = 10**18
        while True:
            now += step_ns
            yield now

    return ticks().__next__


def open_store(
    directory: Path,
    pool: Pool,
    limit_bytes: int = NO_LIMIT,
    now_ns: Callable[[], int] | None = None,
    format_key: str = FORMAT,
) -> EntryStore:
    """A store that has scanned what is in `directory`."""
    folder = Folder(directory, FINGERPRINT, scope_of(FINGERPRINT, format_key))
    store = EntryStore(folder, limit_bytes, pool.page, now_ns or ticking())
    for _ in store.scan():
        pass
    return store


def file_of(directory: Path, key: Key) -> Path:
    """The one file that holds an entry, in whatever scope."""
    (found,) = directory.rglob(file_name(key))
    return found

"""The files of the disk tier, for one model and page format. Knows nothing of limits, queues and threads.

Other processes may use the same folder: a file appears by being renamed when it is whole, and may vanish at any time.
Nothing is synced: what a power failure tears is told by its digest.
"""

import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from prfaas.core.errors import ConfigError
from prfaas.engine.disk_format import HEADER_BYTES, Header, Key, file_name, key_of, packed, payload_digest, unpacked

_NUM_SHELVES = 256
_ABANDONED_NS = 3600 * 10**9
_TEMPORARY = ".tmp"


@dataclass(frozen=True, slots=True)
class Found:
    """A file that bears an entry's name, as its folder lists it."""

    key: Key
    file_bytes: int
    used_ns: int


class Folder:
    """Entries as files in 256 subfolders ("shelves"), by their hashes' first bytes."""

    def __init__(self, directory: Path, fingerprint: str, scope: bytes) -> None:
        """Makes `directory`'s folder for this scope. Raises ConfigError where that is not possible or allowed."""
        self.path = directory / f"{re.sub('[^0-9A-Za-z-]', '_', fingerprint)[:32]}-{scope.hex()}"
        self.scope = scope
        self._life = secrets.token_hex(8)
        # What is cached tells what prompts said, so nobody else may read it.
        _make(self.path, directory, 0o700)

    def write(self, header: Header, pages: Sequence[memoryview]) -> None:
        """Makes the entry's file, instead of any that is there. Raises OSError."""
        path = self._file(header.key)
        temporary = path.with_name(f"{path.name}.{self._life}{_TEMPORARY}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with FileIO(temporary, "w") as file:
                for part in (memoryview(packed(header)), *pages):
                    _write(file, part)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def read(self, key: Key, pages: Sequence[memoryview]) -> bool:
        """Fills `pages` from the entry's file; whether the file was whole and what it should be.

        Raises FileNotFoundError if it is gone, and OSError. Unless True is returned, `pages` hold anything.
        """
        payload_bytes = sum(page.nbytes for page in pages)
        with FileIO(self._file(key)) as file:
            header = self._header(file, key, HEADER_BYTES + payload_bytes)
            if header is None or not all(_fill(file, page) for page in pages):
                return False
        return payload_digest(pages) == header.digest

    def header(self, found: Found) -> Header | None:
        """The header of a file, None if it is not whole or not ours. Raises OSError."""
        with FileIO(self._file(found.key)) as file:
            return self._header(file, found.key, found.file_bytes)

    def touch(self, key: Key, used_ns: int) -> None:
        """Remembers a use, across restarts, as the file's time of change. Raises FileNotFoundError, and OSError."""
        os.utime(self._file(key), ns=(used_ns, used_ns))

    def delete(self, key: Key) -> None:
        """Deletes the entry's file, if it is there. Raises OSError."""
        self._file(key).unlink(missing_ok=True)

    def shelves(self) -> list[str]:
        """The names of all subfolders there can be."""
        return [f"{number:02x}" for number in range(_NUM_SHELVES)]

    def listing(self, shelf: str) -> tuple[list[Found], int]:
        """What looks like entries on a shelf, and the number of things that do not; abandoned writes are removed.

        Raises OSError.
        """
        found, foreign = [], 0
        try:
            with os.scandir(self.path / shelf) as items:
                for item in items:
                    if item.name.endswith(_TEMPORARY):
                        _remove_abandoned(item)
                    elif (entry := _found(item, shelf)) is not None:
                        found.append(entry)
                    else:
                        foreign += 1
        except FileNotFoundError:
            pass  # A shelf is made for its first entry.
        return found, foreign

    def _file(self, key: Key) -> Path:
        return self.path / key.block_hash[:1].hex() / file_name(key)

    def _header(self, file: FileIO, key: Key, file_bytes: int) -> Header | None:
        header = unpacked(file.read(HEADER_BYTES))
        size = os.fstat(file.fileno()).st_size
        if header is None or (header.key, header.scope) != (key, self.scope):
            return None
        return header if HEADER_BYTES + header.payload_bytes == size == file_bytes else None


def make_usable(directory: Path) -> None:
    """Makes the folder of all scopes: who does so early hears early what is wrong. Raises ConfigError."""
    _make(directory, directory, 0o777)


def _make(path: Path, directory: Path, mode: int) -> None:
    try:
        path.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(_unusable(directory, error.strerror or str(error))) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise ConfigError(_unusable(directory, f"no permission to read and write {path.name}"))


def _unusable(directory: Path, why: str) -> str:
    return f"engine.prefix_cache.disk.path: {directory} cannot be used ({why}); give a folder that prfaas may write to"


def _found(item: os.DirEntry[str], shelf: str) -> Found | None:
    key = key_of(item.name)
    if key is None or key.block_hash[:1].hex() != shelf or not item.is_file(follow_symlinks=False):
        return None
    try:
        status = item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Found(key, status.st_size, status.st_mtime_ns)


def _remove_abandoned(item: os.DirEntry[str]) -> None:
    """Younger ones may be in the making, by another process."""
    try:
        if time.time_ns() - item.stat(follow_symlinks=False).st_mtime_ns > _ABANDONED_NS:
            Path(item.path).unlink(missing_ok=True)
    except FileNotFoundError:
        pass


def _write(file: FileIO, view: memoryview) -> None:
    while view.nbytes:
        view = view[file.write(view) :]


def _fill(file: FileIO, view: memoryview) -> bool:
    """Whether the file had enough bytes."""
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True

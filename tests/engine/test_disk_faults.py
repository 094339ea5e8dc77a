"""The disk tier beside harmed, foreign and half-written files, and on a disk that fails."""

import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prfaas.core.errors import ConfigError
from prfaas.engine.disk_format import HEADER_BYTES
from tests.engine.disk_rig import FILE_BYTES, PAGE_BYTES, Pool, file_of, kv, name, open_store
from tests.eventually import eventually

Harm = Callable[[bytes], bytes]
NOBODY = 65534


def flipped(at: int) -> Harm:
    return lambda raw: raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


HARM: dict[str, Harm] = {
    **{f"byte {at}": flipped(at) for at in range(0, HEADER_BYTES, 4)},
    "first of payload": flipped(HEADER_BYTES),
    "last of payload": flipped(FILE_BYTES - 1),
    "zeros for payload": lambda raw: raw[:HEADER_BYTES] + bytes(PAGE_BYTES),
    "cut in header": lambda raw: raw[:50],
    "header alone": lambda raw: raw[:HEADER_BYTES],
    "cut in payload": lambda raw: raw[:-1],
    "longer": lambda raw: raw + b"\0",
    "empty": lambda raw: raw[:0],
    "text": lambda raw: b"not a cache" + raw[:0],
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_harmed_file_is_never_served_and_goes(tmp_path: Path, harm: Harm) -> None:
    pool, entry = Pool(), kv("a")
    pool.fill(entry)
    store = open_store(tmp_path, pool)
    store.store(entry)
    path = file_of(tmp_path, entry.key)
    path.write_bytes(harm(path.read_bytes()))
    assert not store.load(entry)
    assert store.counts.corrupt == 1
    assert not path.exists()
    assert entry.key not in store.index
    assert store.index.num_bytes == 0
    pool.fill(entry)
    assert store.store(entry)
    pool.clear(entry)
    assert store.load(entry)
    assert pool.has(entry)


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_file_harmed_before_the_start_is_never_served(tmp_path: Path, harm: Harm) -> None:
    pool, entry = Pool(), kv("a")
    pool.fill(entry)
    open_store(tmp_path, pool).store(entry)
    path = file_of(tmp_path, entry.key)
    path.write_bytes(harm(path.read_bytes()))
    store = open_store(tmp_path, pool)
    assert store.counts.foreign == (0 if entry.key in store.index else 1)
    assert not store.load(entry)
    assert entry.key not in store.index


def test_a_whole_file_under_another_name_or_scope_is_foreign(tmp_path: Path) -> None:
    pool, entry = Pool(), kv("a")
    pool.fill(entry)
    store = open_store(tmp_path, pool)
    store.store(entry)
    path = file_of(tmp_path, entry.key)
    path.with_name(f"{entry.block_hash[:1].hex()}{'0' * 30}.kv").write_bytes(path.read_bytes())
    other = open_store(tmp_path, pool, format_key="bfloat16")
    pool.fill(kv("b"))
    other.store(kv("b"))
    strange = file_of(tmp_path, kv("b").key)
    (scope,) = {folder for folder in tmp_path.iterdir() if folder in path.parents}
    (scope / strange.parent.name).mkdir(exist_ok=True)
    (scope / strange.parent.name / strange.name).write_bytes(strange.read_bytes())
    again = open_store(tmp_path, pool)
    assert set(again.index) == {entry.key}
    assert again.counts.foreign == 2


def test_a_folder_in_place_of_a_file_is_no_entry_and_no_end(tmp_path: Path) -> None:
    pool, entry = Pool(), kv("a")
    store = open_store(tmp_path, pool)
    store.store(entry)
    path = file_of(tmp_path, entry.key)
    path.unlink()
    path.mkdir()
    again = open_store(tmp_path, pool)
    assert entry.key not in again.index
    assert again.counts.foreign == 1
    assert not again.load(entry)
    assert not again.store(entry)
    assert again.off is None
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_what_was_left_half_written_goes_once_it_is_old(tmp_path: Path) -> None:
    store = open_store(tmp_path, Pool())
    store.store(kv("a"))
    path = file_of(tmp_path, kv("a").key)
    young, old = (path.with_name(f"{path.name}.{life}.tmp") for life in ("1", "2"))
    for left in (young, old):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert len(open_store(tmp_path, Pool()).index) == 1
    assert (young.exists(), old.exists()) == (True, False)


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Writing beyond fails, as on a full disk: with a part of the bytes written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_storing_but_not_loading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool()
    store = open_store(tmp_path, pool)
    pool.fill(kv("a"))
    store.store(kv("a"))
    with caplog.at_level(logging.ERROR), largest_file(HEADER_BYTES + 10):
        assert not store.store(kv("b"))
    assert store.off is not None
    assert "EFBIG" in store.off
    assert not store.store(kv("c"))
    assert len(caplog.records) == 1
    assert store.load(kv("a"))
    assert pool.has(kv("a"))
    assert [path.name for path in tmp_path.rglob("*.*")] == [file_of(tmp_path, kv("a").key).name]


def test_a_file_where_a_shelf_should_be_ends_storing(tmp_path: Path) -> None:
    store = open_store(tmp_path, Pool())
    (folder,) = tmp_path.iterdir()
    (folder / name("a")[:1].hex()).write_bytes(b"")
    assert not store.store(kv("a"))
    assert store.off is not None


def test_a_place_that_cannot_be_a_folder_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in ("file", "file/below"):
        with pytest.raises(ConfigError, match=r"engine.prefix_cache.disk.path: .*file.* cannot be used"):
            open_store(tmp_path / place, Pool())


@contextmanager
def without_privileges() -> Iterator[None]:
    """The superuser may write anywhere, so for a while we are nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_without_permission_is_named_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with without_privileges(), pytest.raises(ConfigError, match="give a folder that prfaas may write to"):
        open_store(tmp_path / "cache", Pool())
    tmp_path.chmod(0o700)


def test_a_folder_that_became_read_only_is_named_at_the_start() -> None:
    # Not below pytest's folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as above:
        directory = Path(above)
        open_store(directory, Pool())
        (folder,) = directory.iterdir()
        folder.chmod(0o500)
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, -1)
            os.chown(folder, NOBODY, -1)
        with without_privileges(), pytest.raises(ConfigError, match="no permission to read and write"):
            open_store(directory, Pool())
        folder.chmod(0o700)


ENDLESS = """
import sys
from pathlib import Path
from tests.eventually import eventually
from tests.engine.disk_rig import Pool, kv, open_store

pool, number = Pool(), 0
store = open_store(Path(sys.argv[1]), pool)
while True:
    entry, number = kv(f"{number}"), number + 1
    pool.fill(entry)
    assert store.store(entry)
"""


def test_a_killed_process_leaves_whole_entries_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], cwd=Path(__file__).parents[2]) as child:
        try:
            eventually(lambda: len(list(tmp_path.rglob("*.kv"))) > 100)
        finally:
            child.kill()
    pool = Pool()
    store = open_store(tmp_path, pool)
    assert store.counts.foreign == 0
    assert len(store.index) > 100
    for number in range(len(store.index)):
        assert store.load(kv(f"{number}"))
        assert pool.has(kv(f"{number}"))

"""The disk tier without its thread: what is written is read, within the limit and whatever others do."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.engine.disk_format import Key
from prfaas.engine.disk_store import Entry, EntryStore
from tests.engine.disk_rig import NUM_PAGES, ON_DISK_BYTES, PAGE_BYTES, Pool, chain, file_of, kv, open_store, state


def test_blocks_and_snapshots_come_back(tmp_path: Path) -> None:
    pool, entries = Pool(), [*chain("a", 5), state("a4")]
    store = open_store(tmp_path, pool)
    for entry in entries:
        pool.fill(entry)
        assert entry.key not in store.index
        assert store.store(entry)
        assert entry.key in store.index
        pool.clear(entry)
    for entry in entries:
        assert store.load(entry)
        assert pool.has(entry)
    assert (store.counts.stored, store.counts.stored_bytes) == (6, 8 * PAGE_BYTES)
    assert (store.counts.loaded, store.counts.loaded_bytes) == (6, 8 * PAGE_BYTES)
    assert store.index.num_bytes == 6 * ON_DISK_BYTES


def test_entries_survive_a_restart_and_may_lie_in_other_pages(tmp_path: Path) -> None:
    before, after = Pool(), Pool()
    old = open_store(tmp_path, before)
    for entry in [kv("a"), kv("b", "a", 1), state("b", 3, 4)]:
        before.fill(entry)
        old.store(entry)
    new = open_store(tmp_path, after)
    assert set(new.index) == set(old.index)
    assert new.index.num_bytes == old.index.num_bytes
    for entry in [kv("a", None, 50), kv("b", "a", 9), state("b", 21, 20)]:
        assert new.load(entry)
        assert after.has(entry)


def test_other_models_and_formats_share_the_folder(tmp_path: Path) -> None:
    pool, entry = Pool(), kv("a")
    pool.fill(entry)
    assert open_store(tmp_path, pool).store(entry)
    other = open_store(tmp_path, pool, format_key="bfloat16")
    assert entry.key not in other.index
    assert not other.load(entry)
    assert (other.counts.foreign, other.counts.missing) == (0, 1)


def test_nobody_else_may_read_what_is_cached(tmp_path: Path) -> None:
    open_store(tmp_path, Pool()).store(kv("a"))
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0


def test_the_longest_unused_chain_goes_from_its_end(tmp_path: Path) -> None:
    pool = Pool()
    store = open_store(tmp_path, pool, limit_bytes=6 * ON_DISK_BYTES)
    first, second, third = chain("a", 3), chain("b", 3), chain("c", 2)
    for entry in [*first, *second]:
        assert store.store(entry)
    for entry in first:
        assert store.load(entry)
    for entry in third:
        assert store.store(entry)
    assert set(store.index) == {e.key for e in [*first, second[0], *third]}
    assert store.counts.evicted == 2
    assert store.index.num_bytes == 6 * ON_DISK_BYTES
    assert len(list(tmp_path.rglob("*.kv"))) == 6


def test_a_chain_beyond_the_limit_keeps_its_beginning(tmp_path: Path) -> None:
    store = open_store(tmp_path, Pool(), limit_bytes=4 * ON_DISK_BYTES)
    stored = [store.store(entry) for entry in chain("a", 5)]
    assert stored == [True] * 4 + [False]
    assert set(store.index) == {entry.key for entry in chain("a", 4)}
    assert store.off is None


def test_a_chain_that_grows_is_in_use(tmp_path: Path) -> None:
    store = open_store(tmp_path, Pool(), limit_bytes=2 * ON_DISK_BYTES)
    for entry in (kv("a"), kv("b"), kv("a1", "a")):
        assert store.store(entry)
    assert set(store.index) == {kv("a").key, kv("a1").key}


def test_last_uses_are_remembered_and_a_lower_limit_holds_from_the_start(tmp_path: Path) -> None:
    pool = Pool()
    store = open_store(tmp_path, pool)
    for text in "abc":
        store.store(kv(text))
    used = {"a": 30, "b": 10, "c": 20}
    for text, second in used.items():
        os.utime(file_of(tmp_path, kv(text).key), (second, second))
    again = open_store(tmp_path, pool)
    assert again.load(kv("b"))
    third = open_store(tmp_path, pool, limit_bytes=2 * ON_DISK_BYTES)
    assert set(third.index) == {kv("a").key, kv("b").key}
    assert third.counts.evicted == 1


def test_storing_again_is_a_use_and_writes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path, Pool(), limit_bytes=2 * ON_DISK_BYTES)
    for text in "abac":
        assert store.store(kv(text))
    assert set(store.index) == {kv("a").key, kv("c").key}
    assert store.counts.stored == 3


def test_files_that_others_delete_are_misses(tmp_path: Path) -> None:
    pool, entry = Pool(), kv("a")
    store = open_store(tmp_path, pool)
    store.store(entry)
    file_of(tmp_path, entry.key).unlink()
    assert not store.load(entry)
    assert (store.counts.missing, store.counts.corrupt) == (1, 0)
    assert store.store(entry)
    file_of(tmp_path, entry.key).unlink()
    assert store.store(entry)
    assert file_of(tmp_path, entry.key).exists()


def test_a_scan_finds_what_others_stored_and_deleted(tmp_path: Path) -> None:
    pool = Pool()
    one, other = open_store(tmp_path, pool), open_store(tmp_path, pool)
    one.store(kv("a"))
    other.store(kv("b"))
    file_of(tmp_path, kv("a").key).unlink()
    for store in (one, other):
        assert len(list(store.scan())) > 0
        assert set(store.index) == {kv("b").key}


keys = st.sampled_from([*"abcdef"])
deeds = st.lists(st.tuples(st.sampled_from(["store", "load", "unlink", "harm", "scan", "restart"]), keys), max_size=30)


@settings(max_examples=40)
@given(deeds=deeds)
def test_whatever_happens_only_what_was_stored_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, str]]
) -> None:
    directory, pool = tmp_path_factory.mktemp("tier"), Pool()
    store = open_store(directory, pool)
    whole: dict[Key, bool] = {}
    for deed, text in deeds:
        entry = kv(text, None, "abcdef".index(text))
        if deed == "store":
            pool.fill(entry)
            # A harmed file that nobody has tried to load counts as there.
            whole.setdefault(entry.key, True)
            assert store.store(entry)
        elif deed == "load":
            pool.clear(entry)
            assert store.load(entry) == whole.get(entry.key, False) == pool.has(entry)
            if not whole.get(entry.key):
                whole.pop(entry.key, None)
        elif deed in ("unlink", "harm") and entry.key in whole:
            path = file_of(directory, entry.key)
            if deed == "unlink":
                path.unlink()
                del whole[entry.key]
            else:
                path.write_bytes(path.read_bytes()[:-1] + b"\0")
                whole[entry.key] = False
        elif deed == "scan":
            assert len(list(store.scan())) > 0
        elif deed == "restart":
            store = open_store(directory, pool)
        assert whole.keys() <= set(store.index) | ({entry.key} if deed == "unlink" else set())


@settings(max_examples=30)
@given(
    lengths=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 8)), max_size=12),
    limit=st.integers(1, 12),
)
def test_the_limit_holds_and_chains_have_no_holes(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[tuple[str, int]], limit: int
) -> None:
    directory = tmp_path_factory.mktemp("tier")
    store = open_store(directory, Pool(), limit_bytes=limit * ON_DISK_BYTES)
    for text, length in lengths:
        store_chain(store, chain(text, length))
        files = list(directory.rglob("*.kv"))
        assert len(files) == len(store.index) <= limit
        for chained in (chain(text, NUM_PAGES) for text in "abc"):
            held = [entry.key in store.index for entry in chained]
            assert held == sorted(held, reverse=True)


def store_chain(store: EntryStore, entries: list[Entry]) -> None:
    for entry in entries:
        if not store.store(entry):
            return

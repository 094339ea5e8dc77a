"""The disk tier with its thread: every job comes back, whatever ends first."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from prfaas.engine.disk_queue import Done
from prfaas.engine.disk_store import Entry
from prfaas.engine.disk_tier import DiskTier
from tests.engine.disk_rig import FINGERPRINT, FORMAT, NO_LIMIT, ON_DISK_BYTES, Pool, chain, file_of, kv, state
from tests.eventually import eventually

WAIT_S = 20


class Gate:
    """Holds the worker whenever it asks for a page, until it is opened."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._opened = threading.Event()
        self.reached = threading.Event()

    def page(self, number: int) -> memoryview:
        self.reached.set()
        assert self._opened.wait(WAIT_S)
        return self._pool.page(number)

    def open(self) -> None:
        self._opened.set()


class Rig:
    """Opens tiers on one directory, and closes them at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.woken = threading.Event()
        self.ends = ExitStack()

    def tier(
        self,
        page: Callable[[int], memoryview],
        *,
        limit_bytes: int = NO_LIMIT,
        queue_pages: int = 1024,
        rescan_s: float = 60.0,
        close_s: float = WAIT_S,
    ) -> DiskTier:
        tier = DiskTier(
            self.directory,
            limit_bytes=limit_bytes,
            fingerprint=FINGERPRINT,
            format_key=FORMAT,
            page=page,
            wake=self.woken.set,
            queue_pages=queue_pages,
            rescan_s=rescan_s,
            close_s=close_s,
        )
        self.ends.enter_context(closing(tier))
        assert tier.scanned.wait(WAIT_S)
        return tier

    def ended(self, tier: DiskTier, jobs: int = 1) -> list[Done]:
        """The next `jobs` jobs that end."""
        found: list[Done] = []
        while len(found) < jobs:
            assert self.woken.wait(WAIT_S)
            self.woken.clear()
            found += tier.take()
        assert len(found) == jobs
        return found


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    with made.ends:
        yield made


def filled(pool: Pool, entries: list[Entry]) -> list[Entry]:
    for entry in entries:
        pool.fill(entry)
    return entries


def test_a_prefix_survives_a_restart(rig: Rig) -> None:
    pool, after = Pool(), Pool()
    entries = filled(pool, [*chain("a", 6), state("a5")])
    tier = rig.tier(pool.page)
    assert not any(tier.holds(entry.part, entry.block_hash) for entry in entries)
    assert tier.store(entries)
    assert rig.ended(tier) == [Done(tuple(entries), False, (True,) * 7)]
    tier.close()
    again = rig.tier(after.page)
    assert all(again.holds(entry.part, entry.block_hash) for entry in entries)
    assert (again.num_entries, again.num_bytes) == (7, tier.num_bytes)
    assert again.load(entries)
    (done,) = rig.ended(again)
    assert done == Done(tuple(entries), True, (True,) * 7)
    assert done.seconds > 0
    assert all(after.has(entry) for entry in entries)
    assert (again.counts.hits, again.counts.loaded) == (1, 7)


def test_nothing_after_a_corrupt_block_is_loaded(rig: Rig) -> None:
    pool = Pool()
    entries = filled(pool, chain("a", 4))
    tier = rig.tier(pool.page)
    tier.store(entries)
    rig.ended(tier)
    file_of(rig.directory, entries[1].key).write_bytes(b"torn")
    assert tier.load(entries)
    (done,) = rig.ended(tier)
    assert done.ok == (True, False, False, False)
    assert [tier.holds("kv", entry.block_hash) for entry in entries] == [True, False, True, True]
    assert (tier.counts.corrupt, tier.counts.loaded, tier.counts.hits) == (1, 1, 1)


def test_too_much_waiting_is_refused_and_counted(rig: Rig) -> None:
    pool = Pool()
    gate = Gate(pool)
    tier = rig.tier(gate.page, queue_pages=4)
    assert tier.store(filled(pool, chain("a", 6)))
    assert gate.reached.wait(WAIT_S)
    assert not tier.store(filled(pool, [kv("b", None, 10), kv("c", None, 11)]))
    assert tier.counts.dropped == 2
    gate.open()
    (done,) = rig.ended(tier)
    assert all(done.ok)
    assert tier.store([kv("b", None, 10)])
    assert rig.ended(tier)[0].ok == (True,)


def test_a_load_overtakes_a_long_store(rig: Rig) -> None:
    pool = Pool()
    first = rig.tier(pool.page)
    first.store(filled(pool, [kv("b", None, 40)]))
    rig.ended(first)
    gate = Gate(pool)
    tier = rig.tier(gate.page)
    tier.store(filled(pool, chain("a", 20)))
    assert gate.reached.wait(WAIT_S)
    assert tier.load([kv("b", None, 40)])
    gate.open()
    assert [done.loaded for done in rig.ended(tier, 2)] == [True, False]


def test_closing_finishes_stores_and_drops_loads(rig: Rig) -> None:
    pool = Pool()
    gate = Gate(pool)
    tier = rig.tier(gate.page)
    blocks = filled(pool, chain("a", 8))
    tier.store(blocks[:4])
    assert gate.reached.wait(WAIT_S)
    tier.store(blocks[4:])
    tier.load([blocks[0]])
    closer = threading.Thread(target=tier.close)
    closer.start()
    eventually(lambda: not tier.load([blocks[0]]))
    gate.open()
    closer.join(WAIT_S)
    ended = {(done.loaded, done.entries[0].block_hash): done.ok for done in rig.ended(tier, 3)}
    assert ended[True, blocks[0].block_hash] == (False,)
    assert ended[False, blocks[0].block_hash] == ended[False, blocks[4].block_hash] == (True,) * 4
    assert not tier.store([blocks[0]])


def test_closing_without_patience_gives_all_pages_back(rig: Rig) -> None:
    pool = Pool()
    gate = Gate(pool)
    tier = rig.tier(gate.page, close_s=0.0)
    blocks = filled(pool, chain("a", 8))
    tier.store(blocks)
    assert gate.reached.wait(WAIT_S)
    tier.close()
    gate.open()
    (done,) = rig.ended(tier)
    assert done.ok == (True, *[False] * 7)
    assert tier.counts.failed == 7
    assert rig.tier(pool.page).num_entries == 1


def test_closing_twice_and_without_work_is_fine(rig: Rig) -> None:
    tier = rig.tier(Pool().page)
    tier.close()
    tier.close()
    assert tier.take() == []


def test_a_fault_of_the_worker_gives_pages_back_and_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def page(number: int) -> memoryview:
        raise IndexError(number)

    tier = rig.tier(page)
    tier.store([kv("a"), kv("b", "a", 1)])
    assert rig.ended(tier)[0].ok == (False, False)
    assert tier.off is not None
    assert not tier.store([kv("a")])
    eventually(lambda: not tier.load([kv("a")]))
    assert "IndexError" in caplog.text


def loads_ended(tier: DiskTier, loads: int) -> list[Done]:
    """Waits for so many loads, among whatever stores."""
    found: list[Done] = []

    def enough() -> bool:
        found.extend(done for done in tier.take() if done.loaded)
        return len(found) >= loads

    eventually(enough)
    return found


def test_two_tiers_share_a_directory_and_learn_of_each_other(rig: Rig) -> None:
    pools = Pool(), Pool()
    tiers = [rig.tier(pool.page, rescan_s=0.01) for pool in pools]
    for pool, tier in zip(pools, tiers, strict=True):
        blocks = filled(pool, chain("a", 30))
        assert all(tier.store(blocks) for _ in range(20))
    eventually(lambda: all(tier.num_entries == 30 for tier in tiers))
    tiers[1].store(filled(pools[1], [kv("b", None, 40)]))
    eventually(lambda: tiers[0].holds("kv", kv("b").block_hash))
    for pool, tier in zip(pools, tiers, strict=True):
        for entry in chain("a", 30):
            pool.clear(entry)
        assert tier.load(chain("a", 30))
        assert loads_ended(tier, 1)[0].ok == (True,) * 30
        assert all(pool.has(entry) for entry in chain("a", 30))
        assert tier.counts.foreign == 0


def test_two_tiers_write_and_delete_the_same_entries(rig: Rig) -> None:
    """Each may delete what the other just read or wrote; what is loaded is right all the same."""
    pools = Pool(), Pool()
    tiers = [rig.tier(pool.page, rescan_s=0.0, limit_bytes=7 * ON_DISK_BYTES) for pool in pools]
    elsewhere = [replace(entry, pages=(entry.pages[0] + 30,)) for entry in chain("a", 20)]
    for start in range(0, 20, 2):
        for pool, tier in zip(pools, tiers, strict=True):
            assert tier.store(filled(pool, chain("a", 20))[start:])
            assert tier.load([elsewhere[start]])
    for pool, tier in zip(pools, tiers, strict=True):
        ended = loads_ended(tier, 10)
        assert all(pool.has(done.entries[0]) for done in ended if done.ok[0])
        assert (tier.off, tier.counts.corrupt) == (None, 0)


def test_what_others_stored_counts_within_the_limit(rig: Rig) -> None:
    pools, blocks = (Pool(), Pool()), chain("a", 12)
    small = rig.tier(pools[0].page, limit_bytes=5 * ON_DISK_BYTES, rescan_s=0.01)
    large = rig.tier(pools[1].page)
    large.store(filled(pools[1], blocks))
    assert all(rig.ended(large)[0].ok)
    eventually(lambda: small.num_entries == 5)
    assert [small.holds("kv", entry.block_hash) for entry in blocks] == [True] * 5 + [False] * 7
    large.load(blocks)
    assert rig.ended(large)[0].ok == (True,) * 5 + (False,) * 7

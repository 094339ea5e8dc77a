"""The prefix cache above a real disk tier: what leaves memory comes back, byte for byte, or is computed again."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import BlockHash, RequestId
from prfaas.engine.disk_moves import FIRST_GUESS_BYTES_PER_S, PATIENCE_S, DiskMoves
from prfaas.engine.disk_tier import DiskTier
from tests.eventually import eventually_async

BLOCK, PAGE_BYTES, STATE_PAGES = 4, 64, 2
TOKENS = tuple(range(4 * BLOCK + 1))


class Rig:
    """A cache whose pages hold bytes, and the requests that were told to wait."""

    def __init__(self, directory: Path, pages: int = 32, state_pages: int = STATE_PAGES) -> None:
        self.arena = bytearray(pages * PAGE_BYTES)
        self.cache = PrefixCache(PagePool(pages), block_tokens=BLOCK, state_pages=state_pages)
        self.now_s = 0.0
        self.disk_works = threading.Event()
        self.disk_works.set()
        self.tier = DiskTier(
            directory,
            limit_bytes=1 << 20,
            fingerprint="model",
            format_key="test",
            page=self.page,
            wake=lambda: None,
        )
        self.waiting: dict[str, bool] = {}
        self.moves = DiskMoves(self.tier, self.cache, PAGE_BYTES, self.waiting.__setitem__, lambda: self.now_s)
        assert self.tier.scanned.wait(5)

    def page(self, number: int) -> memoryview:
        """For the tier's thread, which this holds up while the disk does not work."""
        assert self.disk_works.wait(10)
        return memoryview(self.arena)[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]

    def compute(self, tokens: tuple[int, ...], snapshots: tuple[int, ...]) -> list[BlockHash]:
        """As a request does that runs and ends: blocks, and snapshots after some of them."""
        names = block_hashes(root_hash("model", ""), tokens, BLOCK)
        pages = self.cache.allocate(len(names))
        assert pages is not None
        for name, page in zip(names, pages, strict=True):
            self.fill((page,), b"k" + name)
        contents = [tokens[i * BLOCK : (i + 1) * BLOCK] for i in range(len(names))]
        extra = self.cache.insert_blocks(None, names, pages, contents)
        for blocks in snapshots:
            state = self.cache.allocate(self.cache.state_pages)
            assert state is not None
            self.fill(state, b"s" + names[blocks - 1])
            self.cache.insert_snapshot(names[blocks - 1], state)
            self.cache.release(state)
        self.cache.release(pages + extra)
        return names

    def fill(self, pages: tuple[int, ...], content: bytes) -> None:
        for number, page in enumerate(pages):
            part = (content + bytes([number])).ljust(PAGE_BYTES, b".")
            self.arena[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = part

    def holds(self, page: int, content: bytes, number: int = 0) -> bool:
        found = self.arena[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]
        return bytes(found) == (content + bytes([number])).ljust(PAGE_BYTES, b".")

    async def until_stored(self, num_entries: int) -> None:
        await eventually_async(lambda: self.advanced() and self.tier.num_entries == num_entries)

    async def until_loaded(self, name: str) -> None:
        await eventually_async(lambda: self.advanced() and not self.waiting[name])

    def advance(self) -> None:
        self.moves.advance()
        self.cache.check()

    def advanced(self) -> bool:
        self.advance()
        return True

    def forget_all(self) -> None:
        self.cache.clear()
        assert self.cache.pool.used == 0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.moves.close()
    rig.advance()
    rig.forget_all()


async def test_what_was_rounded_on_its_way_here_is_not_stored(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(1, 2, 4))
    rig.cache.pool.mark_lossy([rig.cache.match(names).pages[2], *rig.cache.snapshot_pages(names[0])])
    rig.moves.keep(names)
    await rig.until_stored(2 + 1)
    assert rig.tier.holds("kv", names[1])
    assert rig.tier.holds("state", names[1])


async def test_what_was_evicted_comes_back_for_a_request_that_waits(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(2, 4))
    rig.moves.keep(names)
    await rig.until_stored(4 + 2)
    rig.forget_all()
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    assert rig.waiting == {"r": True}
    await rig.until_loaded("r")
    match = rig.cache.match(names)
    assert match.usable_blocks == 4
    assert all(rig.holds(page, b"k" + name) for page, name in zip(match.pages, names, strict=True))
    assert all(rig.holds(page, b"s" + names[3], i) for i, page in enumerate(match.snapshot))


async def test_what_is_in_memory_is_not_read_again(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.compute(TOKENS[: 2 * BLOCK], snapshots=(2,))
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    await rig.until_loaded("r")
    assert rig.cache.match(names).usable_blocks == 4
    assert rig.tier.counts.loaded == 3
    rig.moves.fetch(names, TOKENS, RequestId("again"))
    assert "again" not in rig.waiting


def damage(directory: Path, block_hash: BlockHash) -> None:
    [file] = [f for f in directory.rglob("*") if f.is_file() and block_hash.hex() in f.name]
    file.write_bytes(file.read_bytes()[:-1] + b"!")


async def test_a_block_that_was_damaged_is_computed_and_all_before_it_is_used(rig: Rig, tmp_path: Path) -> None:
    names = rig.compute(TOKENS, snapshots=(1, 4))
    rig.moves.keep(names)
    await rig.until_stored(6)
    rig.forget_all()
    damage(tmp_path, names[1])
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    await rig.until_loaded("r")
    assert rig.cache.match(names).usable_blocks == 0  # the snapshot after the first block was not asked for
    assert len(rig.cache.match(names).pages) == 1
    assert rig.tier.counts.corrupt == 1
    rig.moves.fetch(names, TOKENS, RequestId("s"))
    await rig.until_loaded("s")
    assert rig.cache.match(names).usable_blocks == 1


async def test_an_announced_prefix_is_loaded_before_its_request_comes(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.moves.fetch(names, (), None)
    rig.moves.fetch(names, TOKENS, RequestId("r"))  # joins the load that is under way
    assert rig.waiting == {"r": True}
    await rig.until_loaded("r")
    assert rig.tier.counts.loaded == 5


async def test_a_restart_finds_what_was_stored(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    names = first.compute(TOKENS, snapshots=(4,))
    first.moves.keep(names)
    first.moves.close()
    first.advance()
    second = Rig(tmp_path)
    second.moves.fetch(names, TOKENS, RequestId("r"))
    await second.until_loaded("r")
    assert second.cache.match(names).usable_blocks == 4
    second.moves.close()


async def test_a_model_without_states_needs_no_snapshot(tmp_path: Path) -> None:
    rig = Rig(tmp_path, state_pages=0)
    names = rig.compute(TOKENS, snapshots=())
    rig.moves.keep(names)
    await rig.until_stored(4)
    rig.forget_all()
    rig.moves.fetch(names, TOKENS[: 3 * BLOCK], RequestId("r"))
    await rig.until_loaded("r")
    assert rig.cache.match(names).usable_blocks == 2  # one token of the third must be computed
    rig.moves.close()


def test_a_pool_without_room_loads_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, pages=8)
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    rig.moves.close()
    rig.advance()
    rig.forget_all()
    later = Rig(tmp_path, pages=8)
    held = later.cache.allocate(4)
    assert held is not None
    later.moves.fetch(names, TOKENS, RequestId("r"))
    assert later.waiting == {}
    assert later.cache.pool.used == 4
    later.moves.close()


async def test_a_disk_that_is_slower_than_computing_is_not_asked(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.moves.prefilled(tokens=1000, seconds=1e-9)
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    assert rig.waiting == {}


@pytest.mark.parametrize("in_memory", [0, 2])
async def test_a_prefix_that_proves_wrong_while_the_rest_of_it_comes_is_not_built_on(rig: Rig, in_memory: int) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.compute(TOKENS[: in_memory * BLOCK], snapshots=())
    rig.disk_works.clear()
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    rig.cache.forget(names[:in_memory])
    rig.disk_works.set()
    await rig.until_loaded("r")
    assert rig.cache.match(names).usable_blocks == (0 if in_memory else 4)


async def test_nor_is_it_built_on_what_others_have_computed_anew(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.compute(TOKENS[: 2 * BLOCK], snapshots=())
    rig.disk_works.clear()
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    rig.cache.forget(names[:2])
    rig.compute(TOKENS[: 2 * BLOCK], snapshots=())  # in pages that the load does not hold
    rig.disk_works.set()
    await rig.until_loaded("r")
    assert len(rig.cache.match(names).pages) == 2


async def test_a_snapshot_that_comes_for_blocks_that_proved_wrong_is_not_kept(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.compute(TOKENS, snapshots=())
    rig.disk_works.clear()
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    rig.cache.forget(names)
    rig.disk_works.set()
    await rig.until_loaded("r")
    assert (rig.cache.blocks, rig.cache.snapshots) == (0, 0)


async def test_nobody_waits_for_ever_for_a_disk_that_hangs(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.disk_works.clear()
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    rig.advance()
    assert rig.waiting == {"r": True}
    assert rig.moves.patient_s() == PATIENCE_S
    rig.now_s = PATIENCE_S
    rig.advance()
    assert rig.waiting == {"r": False}
    assert rig.moves.patient_s() is None
    rig.moves.fetch(names, TOKENS, RequestId("later"))
    assert "later" not in rig.waiting
    rig.disk_works.set()
    await eventually_async(lambda: rig.advanced() and rig.cache.match(names).usable_blocks == 4)


async def test_nobody_is_told_of_patience_before_the_disk_has_had_its_time(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    rig.moves.prefilled(tokens=1, seconds=100.0)
    rig.disk_works.clear()
    rig.moves.fetch(names, TOKENS, RequestId("r"))
    rig.now_s = PATIENCE_S
    rig.advance()
    assert rig.waiting == {"r": True}  # computing would take longer yet
    rig.disk_works.set()
    await rig.until_loaded("r")


async def test_a_disk_that_was_slow_is_tried_again_in_time(rig: Rig) -> None:
    names = rig.compute(TOKENS, snapshots=(4,))
    rig.moves.keep(names)
    await rig.until_stored(5)
    rig.forget_all()
    load_s = (4 + STATE_PAGES) * PAGE_BYTES / FIRST_GUESS_BYTES_PER_S
    rig.moves.prefilled(tokens=4 * BLOCK, seconds=load_s / 2)
    requests = [RequestId(str(i)) for i in range(30)]
    for request in requests:
        rig.moves.fetch(names, TOKENS, request)
    assert 0 < len(rig.waiting) < 25
    await rig.until_loaded("29")

"""Prefixes of which a part was lost, or that come back from disk: what goes on from the rest is the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prfaas.cache.changes import Part
from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.core.ids import BlockHash
from prfaas.engine.disk_format import Key, file_name
from tests.models.conftest import Tiny
from tests.models.rig import POISON
from tests.models.small_instance import SmallInstance
from tests.models.test_prefix_cuts import BLOCK, A, B
from tests.models.test_prefix_reuse import KINDS
from tests.models.uncached import Prompt, Uncached, asking

pytestmark = [pytest.mark.usefixtures("form"), pytest.mark.parametrize("form", ["compiled"], indirect=True)]


def instance_of(
    tiny: Tiny, disk: Path | None = None, snapshot_every: int = 0, own_memory: bool = False
) -> SmallInstance:
    return SmallInstance(
        tiny.ours,
        pages=120,
        slots=4,
        states=14,
        step_tokens=64,
        reuse=True,
        snapshot_every=snapshot_every,
        disk=disk,
        own_memory=own_memory,
    )


def names(instance: SmallInstance, prompt: Prompt) -> list[BlockHash]:
    return block_hashes(root_hash(instance.model.fingerprint, ""), prompt, BLOCK)


def ask(instance: SmallInstance, uncached: Uncached, *prompts: Prompt) -> list[int]:
    """All at once; what of each was there."""
    requests = [asking(f"{len(instance.answers) + i}", prompt, 3) for i, prompt in enumerate(prompts)]
    for request in requests:
        instance.add(request)
    instance.finish()
    for request in requests:
        uncached.check(instance, request)
    return [instance.reused[request.request_id] for request in requests]


def test_a_snapshot_is_lost_and_its_kv_is_not(every: Tiny, uncached: Callable[[str], Uncached]) -> None:
    instance = instance_of(every)
    known, has_states = uncached(every.family), instance.prefixes.state_pages > 0
    ask(instance, known, A[:22])
    instance.prefixes.supersede(names(instance, A[:20])[-1])
    assert instance.prefixes.match(names(instance, A[:20])).usable_blocks == (0 if has_states else 5)
    assert len(instance.prefixes.match(names(instance, A[:20])).pages) == 5
    assert ask(instance, known, A[:22]) == [0 if has_states else 20]
    assert ask(instance, known, A[:22], A[:20] + B[:9]) == [20, 20]
    instance.run()


def test_the_end_of_a_prefix_is_lost(every: Tiny, uncached: Callable[[str], Uncached]) -> None:
    instance = instance_of(every, snapshot_every=8)
    known = uncached(every.family)
    ask(instance, known, A[:39])
    instance.prefixes.forget(names(instance, A[:36])[5:])
    held = instance.prefixes.match(names(instance, A[:36]))
    if instance.prefixes.state_pages:
        assert held.usable_blocks == 4
    assert ask(instance, known, A[:39])[0] >= 16
    assert ask(instance, known, A[:39]) == [36]
    instance.run()


def test_what_is_worth_least_is_lost(every: Tiny, uncached: Callable[[str], Uncached]) -> None:
    """More and more of what two prompts left is evicted before they come again."""
    instance = instance_of(every, snapshot_every=8)
    known, cache = uncached(every.family), instance.prefixes
    reused = [ask(instance, known, A[:39], A[:17] + B[:20])]
    for eighths in (2, 5, 7, 8):
        taken = cache.allocate(cache.pool.free + cache.idle_pages * eighths // 8)
        assert taken is not None
        cache.release(taken)
        reused.append(ask(instance, known, A[:39], A[:17] + B[:20]))
    assert reused[-1] == reused[0]
    assert any(sum(found) > 0 for found in reused)
    instance.run()


@pytest.mark.parametrize(("restarted", "own_memory"), [(False, False), (True, False), (False, True)])
def test_a_prefix_comes_back_from_disk(
    every: Tiny, uncached: Callable[[str], Uncached], tmp_path: Path, restarted: bool, own_memory: bool
) -> None:
    instance = instance_of(every, tmp_path, 8, own_memory)
    known = uncached(every.family)
    ask(instance, known, A[:39], B[:22])
    stored = instance.watch.digests()
    if restarted:
        instance.run()
        instance = instance_of(every, tmp_path, snapshot_every=8)
    else:
        lose_all(instance)
    assert ask(instance, known, A[:39], A[:33] + B[:20], B[:22], B[:9] + A[:20]) == [36, 32, 20, 8]
    assert instance.tier is not None
    assert instance.tier.stats().corrupt == 0
    # Wherever keys know their positions, attention does not see that whole blocks have changed places.
    found = instance.watch.digests()
    prompts = {name for prompt in (A[:36], B[:20]) for name in names(instance, prompt)}
    assert {key: found[key] for key in found if key[1] in prompts} == {
        key: stored[key] for key in found if key[1] in prompts
    }
    instance.run()


def lose_all(instance: SmallInstance) -> None:
    """Once everything is on disk."""
    instance.settle()
    instance.prefixes.clear()
    assert instance.pool.used == 0
    for memory in (instance.memory, instance.computed):
        for page in range(instance.pool.size):
            memory.page(page)[:] = bytes([POISON]) * memory.page_bytes


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize(("part", "block"), [("kv", 0), ("kv", 7), ("state", 8)])
def test_what_was_damaged_on_disk_is_computed(
    tiny_of: Callable[[str], Tiny],
    uncached: Callable[[str], Uncached],
    tmp_path: Path,
    family: str,
    part: Part,
    block: int,
) -> None:
    instance = instance_of(tiny_of(family), tmp_path, snapshot_every=8)
    ask(instance, uncached(family), A[:39])
    lose_all(instance)
    files = list(tmp_path.rglob(file_name(Key(part, names(instance, A[:36])[block]))))
    for file in files:
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    reused = ask(instance, uncached(family), A[:39])
    assert reused == [36] if not files else reused[0] <= BLOCK * block
    assert instance.tier is not None
    assert instance.tier.stats().corrupt == len(files)
    instance.run()

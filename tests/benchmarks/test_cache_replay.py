"""A small trace through the prefix cache: what is found again can be counted by hand."""

import pytest

from benchmarks.cache import headline, missed
from benchmarks.prefix_replay.replay import Tally, replay
from benchmarks.prefix_replay.trace import TracedPrompt
from benchmarks.prefix_replay.variants import Variant, measure, variants
from prfaas.cache.layout import PageLayout
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy

LAYOUT = PageLayout(page_tokens=64, page_bytes=1000, state_pages=3, offsets=(), rows=())
FIRST = TracedPrompt(1100, (1, 2, 3))
NEXT_TURN = TracedPrompt(2100, (1, 2, 4, 5, 6))
PARTS_EARLY = TracedPrompt(1024, (1, 7))


def run(prompts: list[TracedPrompt], state_pages: int = 3, pages: int = 200, tails: bool = False) -> Tally:
    cache = PrefixCache(PagePool(pages), block_tokens=64, state_pages=state_pages)
    tally = replay(prompts, cache, SnapshotPolicy(64, 8192), tails=tails)
    cache.check()
    cache.clear()
    assert cache.pool.used == 0, "a replay gives back all that it takes"
    return tally


def test_a_turn_goes_on_from_the_whole_ids_of_the_one_before() -> None:
    tally = run([FIRST, NEXT_TURN])
    assert tally == Tally(prompts=2, tokens=3200, reused_tokens=1024, snapshots=2)
    assert tally.hit_rate == 0.32


def test_with_partial_ids_the_end_of_a_prompt_is_no_beginning_of_the_next() -> None:
    assert run([FIRST, NEXT_TURN], tails=True).reused_tokens == 0
    assert run([FIRST, FIRST], tails=True).reused_tokens == 1088
    assert run([FIRST, FIRST]).reused_tokens == 1024


def test_where_prompts_part_the_second_one_leaves_a_snapshot_for_the_third() -> None:
    third = TracedPrompt(1200, (1, 8, 9))
    assert run([FIRST, PARTS_EARLY]).reused_tokens == 0
    assert run([FIRST, PARTS_EARLY, third]).reused_tokens == 512
    assert run([FIRST, PARTS_EARLY, third], state_pages=0).reused_tokens == 1024


@pytest.mark.parametrize("state_pages", [0, 3])
def test_one_token_of_a_prompt_is_always_computed(state_pages: int) -> None:
    whole = TracedPrompt(1024, (1, 2))
    assert run([whole, whole], state_pages).reused_tokens == 960


def test_what_a_full_pool_let_go_is_computed_again() -> None:
    others = [TracedPrompt(1536, (10 * n, 10 * n + 1, 10 * n + 2)) for n in range(1, 9)]
    assert run([FIRST, *others, FIRST], pages=1000).reused_tokens == 1024
    assert run([FIRST, *others, FIRST], pages=64).reused_tokens == 0


def test_a_row_says_what_is_held() -> None:
    row = measure(Variant("KV and states"), [FIRST, NEXT_TURN], LAYOUT, 8192)
    assert row["hit_rate"] == 0.32
    assert row["snapshot_bytes"] == 2 * 3 * 1000
    assert row["kv_bytes"] == 32 * 1000
    bound = measure(Variant("KV only"), [FIRST, NEXT_TURN], LAYOUT, 8192)
    assert (bound["hit_rate"], bound["snapshot_bytes"]) == (0.32, 0)


def test_figures_are_taken_from_their_rows() -> None:
    trace = [FIRST, NEXT_TURN, PARTS_EARLY, NEXT_TURN]
    rows = [measure(variant, trace, LAYOUT, 8192) for variant in variants(10)]
    figures = headline(rows, 10)
    assert figures["hit_rate_partial_ids"] <= figures["hit_rate"] <= figures["hit_rate_bound"]
    assert figures["policy_over_lru"] == figures["policy_hit_rate"] / figures["lru_hit_rate"]
    assert figures["snapshot_bytes"] == rows[1]["snapshot_bytes"] > 0


def test_missed_targets_are_named_with_what_was_reached() -> None:
    assert missed({"hit_rate": 0.36, "hash_ms_100k": 3.0}) == []
    assert missed({"hit_rate": 0.3512, "hash_ms_100k": 4.0}) == ["hit_rate 0.351 (>= 0.36)", "hash_ms_100k 4 (<= 3)"]

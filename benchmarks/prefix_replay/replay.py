"""Prompts of a trace go through a prefix cache one after another, as a scheduler would take them through it.

Each is matched, pinned and given pages for what it must compute and for its own states; what it computed is inserted
and all is released. Answers, and requests that run at the same time, are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.prefix_replay.trace import TracedPrompt
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy


@dataclass(slots=True)
class Tally:
    """What a replay came to."""

    prompts: int = 0
    tokens: int = 0
    reused_tokens: int = 0
    snapshots: int = 0
    """Taken."""

    @property
    def hit_rate(self) -> float:
        return self.reused_tokens / self.tokens


def replay(prompts: Iterable[TracedPrompt], cache: PrefixCache, policy: SnapshotPolicy, *, tails: bool) -> Tally:
    """`tails`: whether a partial last id counts as well, with which hardly any continuation agrees."""
    tally = Tally()
    for prompt in prompts:
        known = prompt.tokens if tails else prompt.whole_tokens
        reused, snapshots = _serve(prompt, known, cache, policy)
        tally.prompts += 1
        tally.tokens += prompt.tokens
        tally.reused_tokens += reused
        tally.snapshots += snapshots
    return tally


def _serve(prompt: TracedPrompt, known_tokens: int, cache: PrefixCache, policy: SnapshotPolicy) -> tuple[int, int]:
    """Tokens that were not computed, and snapshots taken."""
    block = cache.block_tokens
    hashes = prompt.block_hashes(block, known_tokens)
    match = cache.match(hashes, (prompt.tokens - 1) // block)
    usable = match.usable_blocks
    held = [*cache.pin(match, usable, snapshot=True), *match.snapshot]
    # The last token of the prompt is computed whatever is cached; behind `known_tokens` it lies anyway.
    end = min(prompt.tokens, known_tokens + 1)
    positions = policy.positions(usable * block, end, match.branch_blocks * block) if cache.state_pages else ()
    pages = cache.allocate(-(-prompt.tokens // block) - usable + cache.state_pages)
    assert pages is not None, "the pool is smaller than one prompt"
    held += pages
    parent = hashes[usable - 1] if usable else None
    new = hashes[usable:]
    held += cache.insert_blocks(parent, new, pages[: len(new)], [()] * len(new))
    taken = 0
    for position in positions:
        states = cache.allocate(cache.state_pages)
        if states is None:
            break
        held += states
        taken += cache.insert_snapshot(hashes[position // block - 1], states)
    cache.release(held)
    return usable * block, taken

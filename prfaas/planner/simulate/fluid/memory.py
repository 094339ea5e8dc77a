"""What tasks hold of an instance's cache, and what they leave in it: as `prfaas.scheduler.memory`, a prompt at a time.

Pages for the answer are taken with the prompt's, so that nothing is ever preempted. What a prompt leaves is found when
all of it is computed. Does not know who should have memory first.
"""

from prfaas.cache.match import Match
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival
from prfaas.planner.simulate.fluid.names import answered_names, block_names
from prfaas.planner.simulate.fluid.task import Task
from prfaas.scheduler.memory import PLENTIFUL_SHARE

_NOTHING = Match()
_GLANCE = 2
"""Blocks: few arrivals go on from more than what all have in common."""


class TaskMemory:
    """Takes pages from the cache for a task, and gives back."""

    def __init__(self, cache: PrefixCache, snapshots: SnapshotPolicy) -> None:
        self._cache = cache
        self._snapshots = snapshots
        self._matched: tuple[tuple[BlockHash, ...], int, int, Match] | None = None
        """What was found last, of which names, up to which block, and in which version of the cache."""

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // ID_TOKENS) + self._cache.state_pages

    def cached_tokens(self, arrival: Arrival) -> int:
        """Leading tokens of a prompt that would not have to be computed. Changes nothing."""
        if not arrival.blocks or not self._cache.blocks:
            return 0
        names = block_names(arrival)
        limit = min(len(names), (arrival.prompt_tokens - 1) // ID_TOKENS)
        if self._cache.holds(names[:_GLANCE]):
            match = self._match(names, limit)
        else:
            match = self._cache.match(names[:_GLANCE], limit)
        return match.usable_blocks * ID_TOKENS

    def reserve(self, task: Task, keep_free: int, *, reuse: bool = True) -> bool:
        """Pages for prompt, answer and states, together or none; False unless `keep_free` pages remain.

        With `reuse`, what is cached of the prompt is shared: of an import all KV, since states will come; of any other
        task as much as has a snapshot, whose pages come on top.
        """
        cache, imports = self._cache, task.imports_prompt
        match = self._match(task.names, task.usable_blocks) if reuse and task.names else _NOTHING
        blocks = len(match.pages) if imports else match.usable_blocks
        needed = self.pages_for(task.total_tokens) - blocks
        spare = cache.available - needed - keep_free
        # What was found counts among the pages that are available, unless others hold it: to look takes long.
        most_found = blocks + len(match.snapshot)
        if spare < most_found and spare < cache.pin_cost(match, blocks, snapshot=not imports):
            return False
        pinned = cache.pin(match, blocks, snapshot=not imports)
        fresh = cache.allocate(needed)
        assert fresh is not None
        kv_pages = needed - cache.state_pages
        task.pages, task.state_pages = pinned + fresh[:kv_pages], fresh[kv_pages:]
        task.source_pages = () if imports else match.snapshot
        task.named_blocks = blocks
        task.computed_tokens = task.cached_tokens = 0 if imports else blocks * ID_TOKENS
        task.last_snapshot = task.computed_tokens
        task.snapshots_at = () if imports else self._positions(task, match.branch_blocks)
        return True

    def computed(self, task: Task, keep_free: int) -> None:
        """The cache learns of a whole prompt, and gets the snapshots that were due on the way."""
        cache = self._cache
        self._share(task)
        loose, task.source_pages = list(task.source_pages), ()
        for position in task.snapshots_at:
            name = task.names[position // ID_TOKENS - 1]
            task.last_snapshot = position
            if cache.has_snapshot(name):
                continue
            room = cache.available >= cache.state_pages + keep_free
            pages = cache.allocate(cache.state_pages) if room else None
            if pages is None:
                cache.skipped_snapshots += 1
            else:
                cache.insert_snapshot(name, pages)
                loose += pages
        if loose:
            cache.release(loose)

    def imported(self, task: Task) -> None:
        """The cache learns of a prompt whose KV has come; states at a block's end have not."""
        self._share(task)

    def answered(self, task: Task) -> None:
        """The cache learns of the answer's whole blocks, and keeps the states at the last one's end if it has room.

        The live scheduler leaves states all along and drops each when it has left the next.
        """
        arrival = task.job.arrival
        cached_tokens = arrival.prompt_tokens + arrival.output_tokens - 1
        task.names = answered_names(arrival)[: cached_tokens // ID_TOKENS]
        self._share(task)
        end, cache = len(task.names) * ID_TOKENS, self._cache
        plentiful = cache.available >= cache.state_pages + cache.pool.size // PLENTIFUL_SHARE
        if end > arrival.prompt_tokens and plentiful and self._snapshots.while_decoding(end, task.last_snapshot):
            cache.insert_snapshot(task.names[-1], task.state_pages)

    def free(self, task: Task) -> None:
        """Takes everything back; what the cache holds of it stays there."""
        self._cache.release((*task.pages, *task.duplicates, *task.state_pages, *task.source_pages))
        task.pages = task.duplicates = task.state_pages = task.source_pages = ()
        task.named_blocks = task.computed_tokens = 0

    def import_prefix(self, arrival: Arrival, tokens: int) -> None:
        """Caches the first `tokens` of a prompt, and the states at their end.

        What finds no room is left out: without states the last blocks, with them all, as nobody could go on from it.
        """
        cache, names = self._cache, block_names(arrival)[: tokens // ID_TOKENS]
        if not names or not cache.enabled:
            return
        match = cache.match(names)
        known = len(match.pages)
        held = cache.pin(match, known, snapshot=False)
        states = 0 if cache.has_snapshot(names[-1]) else cache.state_pages
        missing = len(names) - known
        fits = min(missing, cache.available - states)
        fresh = cache.allocate(fits + states) if fits >= (missing if states else 0) else None
        if fresh is not None:
            cache.insert_blocks(
                names[known - 1] if known else None, names[known : known + fits], fresh[:fits], [()] * fits
            )
            if states:
                cache.insert_snapshot(names[-1], fresh[fits:])
        cache.release((*held, *(fresh or ())))

    def _match(self, names: tuple[BlockHash, ...], limit_blocks: int) -> Match:
        """The router asks, then whoever puts the request into a line, then who admits it: mostly nothing changes."""
        version, known = self._cache.version, self._matched
        if known and known[0] is names and known[1] == limit_blocks and known[2] == version:
            return known[3]
        match = self._cache.match(names, limit_blocks)
        self._matched = names, limit_blocks, version, match
        return match

    def _positions(self, task: Task, branch_blocks: int) -> tuple[int, ...]:
        if not task.names or not self._cache.state_pages or not self._cache.enabled:
            return ()
        # Of what lies behind the listed blocks nobody can tell that it comes again.
        end = min(task.prompt_tokens, len(task.names) * ID_TOKENS + 1)
        return self._snapshots.positions(task.computed_tokens, end, branch_blocks * ID_TOKENS)

    def _share(self, task: Task) -> None:
        first, last = task.named_blocks, len(task.names)
        if first < last and self._cache.enabled:
            parent = task.names[first - 1] if first else None
            new = task.names[first:last]
            task.duplicates += self._cache.insert_blocks(parent, new, task.pages[first:last], [()] * len(new))
            task.named_blocks = last

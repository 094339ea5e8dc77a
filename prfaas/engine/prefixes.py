"""What the step loop does about cached prefixes: keeps those announced, moves them to and from disk, counts hits.

Decides nothing about memory; knows no sockets and no files.
"""

import logging
from collections.abc import Sequence as Many
from typing import Protocol

from prfaas.cache.leases import LeaseId
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.clock import Clock
from prfaas.core.errors import LeaseError
from prfaas.core.ids import BlockHash, RequestId
from prfaas.engine.messages import DiskStats, PrefixStats
from prfaas.scheduler.sequence import Sequence

log = logging.getLogger(__name__)


class Tier(Protocol):
    """A slower tier below the cache's memory; see `prfaas.engine.disk_moves`."""

    def advance(self) -> None:
        """Takes note of what has come and gone since the last call."""
        ...

    def fetch(self, hashes: Many[BlockHash], tokens: Many[int], request_id: RequestId | None) -> None:
        """Begins to bring what is missing of a prefix, if that pays; a waiting request waits for it."""
        ...

    def keep(self, hashes: Many[BlockHash]) -> None:
        """Begins to store what is cached of a prefix."""
        ...

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A step computed so many prompt tokens in that time."""
        ...

    def patient_s(self) -> float | None:
        """Seconds until `advance` lets a request go on without what it waits for; None if none waits."""
        ...

    def stats(self) -> DiskStats:
        """The present reading."""
        ...

    def close(self) -> None:
        """Gives everything back."""
        ...


REMEMBERED = 4096
"""Requests admitted last, whose announcements come too late."""


class Prefixes:
    """Owned by the step loop's thread. Leases end when their request is admitted, or with their time."""

    def __init__(self, cache: PrefixCache, tier: Tier | None, clock: Clock, announced_s: float) -> None:
        self._cache = cache
        self._tier = tier
        self._clock = clock
        self._announced_s = announced_s
        self._leases: dict[str, tuple[LeaseId, float]] = {}
        """And when they end; those that end first come first."""
        self._admitted: dict[str, None] = {}
        """Announced ids of the requests admitted last, oldest first."""
        self._unclaimed_leases = 0
        self._queried_tokens = 0
        self._hit_tokens = 0

    def advance(self) -> None:
        """To be called before each admission."""
        if self._leases and (expired := self._cache.expire_leases(self._clock())):
            self._unclaimed_leases += expired
            self._leases = {name: lease for name, lease in self._leases.items() if self._cache.is_leased(lease[0])}
        if self._tier is not None:
            self._tier.advance()

    def idle_at_most_s(self) -> float | None:
        """Seconds until time alone changes something: a lease ends, or patience with a disk. None if nothing will."""
        times = [until_s - self._clock() for _, until_s in list(self._leases.values())[:1]]
        if self._tier is not None and (patient_s := self._tier.patient_s()) is not None:
            times.append(patient_s)
        return max(0.0, min(times)) if times else None

    def give_way(self) -> bool:
        """Ends the oldest lease, because requests wait for memory and nothing runs; False if there is none."""
        oldest = next(iter(self._leases), None)
        if oldest is None:
            return False
        self._unclaimed_leases += 1
        log.info("the prefix of announced request %s is not kept: others wait for its memory", oldest)
        self._end_lease(oldest)
        return True

    def announced(self, request_id: str, hashes: tuple[BlockHash, ...]) -> None:
        """A request with this prefix was placed here: nothing of it may be evicted, and what is on disk may come.

        Announcements travel beside the requests and may come after them; then nobody would end their lease.
        """
        if request_id in self._admitted:
            return
        self._end_lease(request_id)
        until_s = self._clock() + self._announced_s
        lease = self._cache.lease(hashes, until_s)
        if lease is not None:
            self._leases[request_id] = lease, until_s
        if self._tier is not None:
            self._tier.fetch(hashes, (), None)

    def arrived(self, sequence: Sequence) -> None:
        """A request waits for admission."""
        if self._tier is not None and not sequence.imports_prompt:
            self._tier.fetch(sequence.hashes, sequence.request.prompt_token_ids, sequence.request_id)

    def admitted(self, sequence: Sequence) -> None:
        """For the first time: what it found is its own now, and no lease need keep it."""
        announced = sequence.request_id.rpartition("#")[0]
        self._end_lease(announced)
        self._admitted[announced] = None
        if len(self._admitted) > REMEMBERED:
            del self._admitted[next(iter(self._admitted))]
        if not sequence.imports_prompt:
            self._queried_tokens += sequence.request.prompt_tokens
            self._hit_tokens += sequence.cached_tokens

    def prefilled(self, sequence: Sequence) -> None:
        """All of a prompt is computed, and its logits were sound."""
        if self._tier is not None:
            self._tier.keep(sequence.hashes)

    def stepped(self, prefill_tokens: int, seconds: float) -> None:
        """A step was computed."""
        if self._tier is not None and prefill_tokens >= self._cache.block_tokens:
            self._tier.prefilled(prefill_tokens, seconds)

    def close(self) -> None:
        """At the loop's end."""
        if self._tier is not None:
            self._tier.close()

    def stats(self) -> PrefixStats:
        """The present reading."""
        cache = self._cache
        return PrefixStats(
            queried_tokens=self._queried_tokens,
            hit_tokens=self._hit_tokens,
            blocks=cache.blocks,
            snapshots=cache.snapshots,
            evicted_blocks=cache.evicted_blocks,
            evicted_snapshots=cache.evicted_snapshots,
            skipped_snapshots=cache.skipped_snapshots,
            unknown_blocks=cache.unknown_blocks,
            stale_leases=self._unclaimed_leases + cache.stale_leases,
            disk=self._tier.stats() if self._tier is not None else None,
        )

    def _end_lease(self, request_id: str) -> None:
        lease = self._leases.pop(request_id, None)
        if lease is None:
            return
        try:
            self._cache.end_lease(lease[0])
        except LeaseError:
            # It has run out since; the cache counts it.
            return

"""Takes every job through the fleet as the live instances do among themselves. Chooses no instance, and no threshold.

The decode instance reserves pages first, then has the prompt prefilled elsewhere; the KV crosses while it is made, and
decoding begins when all of it has come. What does not go on is given up, and the decode instance prefills itself: from
what it has cached, for states come last, and KV without them is of no use.

Inside a cluster the network is taken to be as fast as KV is made: what is prefilled beside the decode instance is there
when its prefill ends.
"""

from collections.abc import Callable, Mapping
from functools import partial

from prfaas.planner.simulate.fleet import Fleet, Member
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.tally import Tally
from prfaas.planner.simulate.way import Ends, Transit, Way
from prfaas.policy.codec import SAVES
from prfaas.policy.transfer_deadline import Tail, too_slow
from prfaas.policy.view import CacheTransfer, Placement

STALL_S = 10.0
"""Silence after which a decode instance gives a transfer up; `transport.stall_s` of an instance's configuration."""


class Journeys:
    """Hears what instances do with jobs (a `Listener`), and tells them what comes next."""

    def __init__(
        self,
        loop: EventLoop,
        ways: Mapping[Ends, Way],
        tally: Tally,
        answered: Callable[[Job], None],
        ended: Callable[[Job], None],
        stall_s: float = STALL_S,
    ) -> None:
        self.fleet: Fleet
        """Set once: instances are made with their listener."""
        self._loop, self._ways, self._tally, self._answered, self._ended = loop, ways, tally, answered, ended
        self._stall_s = stall_s
        self._members: dict[Job, tuple[Member, Member | None]] = {}
        """Who decodes, and who prefills elsewhere."""
        self._transits: dict[Job, Transit] = {}

    @property
    def open_jobs(self) -> int:
        return len(self._members)

    @property
    def in_transit(self) -> int:
        return len(self._transits)

    def begin(self, job: Job, placement: Placement) -> None:
        """Sends a job where it was placed."""
        decode = self.fleet[placement.decode.instance_id]
        prefill = self.fleet[placement.prefill.instance_id] if placement.prefill else None
        job.placement, job.placed_s = placement, self._loop.now_s
        decode.jobs += 1
        self._members[job] = decode, prefill
        if prefill is not None:
            prefill.jobs += 1
            prefill.coming_requests += 1
            prefill.coming_tokens += placement.uncached_tokens
            decode.instance.reserve(job)
        elif placement.cache_transfer:
            self._move_cache(job, placement.cache_transfer, decode)
        else:
            decode.instance.serve(job)

    def reserved(self, job: Job) -> None:
        job.reserved_s = self._loop.now_s
        _, prefill = self._members[job]
        assert prefill
        assert job.placement
        if job.placement.cache_transfer:
            self._move_cache(job, job.placement.cache_transfer, prefill)
        else:
            self._prefill(job)

    def prefill_started(self, job: Job, expected_s: float) -> None:
        job.prefill_started_s = self._loop.now_s
        transit = self._transits.get(job)
        if transit is None or transit.shipment:
            return
        assert job.placement
        _, prefill = self._members[job]
        assert prefill
        profile, saves = prefill.instance.profile, SAVES[job.placement.codec]
        per_token = profile.kv_bytes_per_token / saves
        link = transit.way.link
        transit.shipment = link.open(partial(self._arrived, job))
        transit.num_bytes = (job.prompt_tokens - job.held_tokens) * per_token + profile.state_bytes / saves
        link.add(transit.shipment, (job.cached_tokens - job.held_tokens) * per_token)
        link.pour(
            transit.shipment, (job.prompt_tokens - max(job.cached_tokens, job.held_tokens)) * per_token, expected_s
        )

    def prefilled(self, job: Job) -> None:
        job.prefilled_s = self._loop.now_s
        transit = self._transits.get(job)
        if transit is not None:
            assert transit.shipment
            transit.closed = True
            transit.way.link.close(transit.shipment, transit.num_bytes)
        elif self._members[job][1] is None:
            job.arrived_s = self._loop.now_s
        else:
            # Later, for the instance that calls is not done with its step.
            self._loop.after(0.0, self._handed_over, job)

    def first_token(self, job: Job) -> None:
        job.first_token_s = self._loop.now_s
        self._tally.answers(job)
        self._answered(job)

    def finished(self, job: Job) -> None:
        job.finished_s = self._loop.now_s
        decode, _ = self._members.pop(job)
        decode.jobs -= 1
        self._tally.finishes(job)
        self._ended(job)

    def check(self) -> None:
        """Gives up what does not go on; to be called once a second, as decode instances look at their transfers."""
        now_s = self._loop.now_s
        for way in self._ways.values():
            if way.transits:
                down_s = way.link.capacity.down_since(now_s) if way.link.capacity.ever_down else None
                for transit in list(way.transits.values()):
                    if down_s is not None:
                        if now_s - max(down_s, transit.since_s) >= self._stall_s:
                            self._give_up(transit, "stalled")
                    elif transit.closed and self._too_slow(transit):
                        self._give_up(transit, "too_slow")

    def _prefill(self, job: Job) -> None:
        """A prefill instance's part, once pages are reserved and what was to be cached there is."""
        decode, prefill = self._members[job]
        assert prefill
        assert job.placement
        prefill.coming_requests -= 1
        prefill.coming_tokens -= job.placement.uncached_tokens
        if prefill.seat.cluster != decode.seat.cluster:
            self._enter(job, self._ways[prefill.seat.cluster, decode.seat.cluster])
        prefill.instance.export(job)

    def _arrived(self, job: Job) -> None:
        self._leave(job)
        self._handed_over(job)

    def _handed_over(self, job: Job) -> None:
        """All KV is at the decode instance."""
        job.arrived_s = self._loop.now_s
        self._free_prefill(job)
        self._members[job][0].instance.begin_decode(job)

    def _free_prefill(self, job: Job) -> None:
        decode, prefill = self._members[job]
        assert prefill
        self._members[job] = decode, None
        prefill.jobs -= 1
        prefill.instance.release(job)

    def _give_up(self, transit: Transit, reason: str) -> None:
        job = transit.job
        if transit.shipment:
            transit.way.link.cancel(transit.shipment)
        moving_cache = job.notes.pop("cache_transfer", 0.0)
        self._leave(job)
        if moving_cache:
            self._go_on(job)
            return
        job.attempt += 1
        job.fallback = reason
        self._tally.falls_back(reason)
        self._free_prefill(job)
        self._members[job][0].instance.prefill_here(job)

    def _too_slow(self, transit: Transit) -> bool:
        assert transit.shipment
        assert transit.job.placement
        job, gauge = transit.job, transit.way.gauge
        deadline_s = transit.job.placement.deadline_s
        tail = Tail(
            missing_bytes=transit.way.link.missing_bytes(transit.shipment),
            rate_bytes_s=gauge.link.capacity.bytes_s(self._loop.now_s),
            best_bytes_s=gauge.best_bytes_s,
            deadline_s=None if deadline_s is None else job.placed_s + deadline_s - self._loop.now_s,
            local_prefill_s=self._members[job][0].instance.profile.prefill.seconds(job.prompt_tokens, job.held_tokens),
        )
        return too_slow(tail, self._stall_s) is not None

    def _move_cache(self, job: Job, transfer: CacheTransfer, target: Member) -> None:
        """A cached prefix goes ahead to where the rest is prefilled."""
        self._tally.cache_transfers += 1
        ends = transfer.source.cluster, target.seat.cluster
        if ends[0] == ends[1]:
            self._cache_moved(job, target, transfer.tokens)
            return
        transit = self._enter(job, self._ways[ends])
        job.notes["cache_transfer"] = 1.0
        transit.closed, transit.num_bytes = True, transfer.num_bytes
        transit.shipment = transit.way.link.open(partial(self._cache_arrived, job, target, transfer.tokens))
        transit.way.link.close(transit.shipment, transfer.num_bytes)

    def _cache_arrived(self, job: Job, target: Member, tokens: int) -> None:
        del job.notes["cache_transfer"]
        self._leave(job)
        self._cache_moved(job, target, tokens)

    def _cache_moved(self, job: Job, target: Member, tokens: int) -> None:
        target.instance.import_prefix(job.arrival, tokens)
        self._go_on(job)

    def _go_on(self, job: Job) -> None:
        decode, prefill = self._members[job]
        if prefill is None:
            decode.instance.serve(job)
        else:
            self._prefill(job)

    def _enter(self, job: Job, way: Way) -> Transit:
        transit = Transit(job, way, self._loop.now_s)
        self._transits[job] = way.transits[job] = transit
        return transit

    def _leave(self, job: Job) -> None:
        """Its transit is over; what crossed of it is paid for."""
        transit = self._transits.pop(job)
        del transit.way.transits[job]
        if transit.shipment:
            job.link_bytes += transit.shipment.sent_bytes
            job.usd += transit.shipment.sent_bytes / 1e9 * transit.way.gauge.usd_per_gb

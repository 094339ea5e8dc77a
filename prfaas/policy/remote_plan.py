"""The quickest plan that prefills in a `prfaas` cluster and sends the KV across a link."""

from dataclasses import dataclass

from prfaas.policy.expect import cross, least_cross_s, scarce, slot_s, unmade_bytes, usable
from prfaas.policy.plans import INF, Plan
from prfaas.policy.survey import Survey
from prfaas.policy.view import InstanceView

WORKERS = 3
"""Of the clusters' least loaded instances, so many with the quickest prefills are put together with decode
instances..."""
TARGETS = 4
"""...of so many clusters that they have a link to; a link that is scarce does not count."""
HOLDERS = 2
"""Decode instances with a prefix, the longest first, are among them: the less they lack, the less has to cross."""

Target = tuple[float, int, int, str, InstanceView]
"""A decode instance: seconds until it has room, its requests, tokens that it lacks, its name."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for."""

    below_s: float = INF
    """Plans that take so long are not wanted."""
    unseen: bool = False
    """Links do not matter, not even where none is known."""
    every: bool = False
    """Nothing is left out to save time."""


ANY = Search()


def remote_plan(found: Survey, search: Search = ANY) -> Plan | None:
    """None where no `prfaas` cluster has an instance, and a link that can be relied on."""
    times = found.times
    leads = [
        (done_s, i.instance_id, i)
        for i in found.far
        if (done_s := i.queue_s + times.prefill_s(i.profile, found.held(i))) < search.below_s
    ]
    holders = [
        worker
        for missing, _, worker in found.far_holders
        if worker.queue_s + times.least_s(worker.profile, -missing) < search.below_s
    ]
    if not leads and not holders:
        return None
    leads.sort()
    targets = _targets(found, search)
    best: Plan | None = None
    tried = 0
    for done_s, _, worker in leads:
        if best is not None and (done_s >= best.ttft_s or (tried >= WORKERS and not search.every)):
            break
        best, free = _better(found, worker, targets, best, search)
        tried += free
    for worker in holders:
        if best is None or worker.queue_s + times.least_s(worker.profile, found.held(worker)) < best.ttft_s:
            best, _ = _better(found, worker, targets, best, search)
    return best


def _targets(found: Survey, search: Search) -> list[Target]:
    """The decode instances that KV may be sent to, in the order in which they are tried."""
    tokens, held = found.request.prompt_tokens, found.held
    targets: list[Target] = [
        (room_s, decode.requests, tokens - held(decode), decode.instance_id, decode)
        for decode, room_s, _ in found.near.values()
    ]
    targets.sort()
    if not found.decode_holders:
        return targets
    holders = sorted(found.decode_holders)
    few = holders if search.every else holders[:HOLDERS]
    return [(slot_s(i, found.params), i.requests, tokens + missing, name, i) for missing, name, i in few] + targets


def _better(
    found: Survey, worker: InstanceView, targets: list[Target], best: Plan | None, search: Search
) -> tuple[Plan | None, bool]:
    """The best of one worker's plans and `best`, and whether it has a link with bandwidth to spare."""
    profile, params, links = worker.profile, found.params, found.view.links
    assert profile
    cached = found.held(worker)
    prefill_s = found.times.prefill_s(profile, cached)
    ahead = unmade_bytes(found.view.parts[worker.cluster], profile) / len(found.near)
    limit_s = best.ttft_s if best else search.below_s
    tried = 0
    for room_s, requests, lacking, name, decode in targets:
        link = links.get((worker.cluster, decode.cluster))
        start_s = max(worker.queue_s, room_s)
        crossing, ttft_s = None, INF
        if usable(link, params):
            assert link
            tried += not scarce(link, params)
            if least_cross_s(link, profile, lacking, start_s, prefill_s) <= limit_s:
                crossing = cross(link, params, profile, lacking, (start_s, start_s + prefill_s), ahead)
                ttft_s = crossing.done_s
        elif not search.unseen:
            continue
        if ttft_s <= limit_s and (crossing or search.unseen):
            names = name, worker.instance_id
            plan = Plan(ttft_s, requests, lacking, *names, decode, worker, cached, start_s, prefill_s, crossing)
            if best is None or plan < best:
                best, limit_s = plan, ttft_s
        if tried >= TARGETS and not search.every:
            break
    return best, tried > 0

"""The quickest plan that prefills in a `prfaas` cluster and sends the KV across a link."""

from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.core.ids import InstanceId
from prfaas.policy.expect import cross, least_cross_s, slot_s, unmade_bytes, usable
from prfaas.policy.leads import Target
from prfaas.policy.plans import INF, Plan
from prfaas.policy.survey import Survey, promising
from prfaas.policy.view import InstanceView

WORKERS = 2
"""Of the clusters' least loaded instances, so many with the quickest prefills are put together with decode
instances..."""
TARGETS = 3
"""...of so many clusters that they have a link to."""
HOLDERS = 2
"""Decode instances with a prefix, the longest first, are among them: the less they lack, the less has to cross."""


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
    leads = _quick_leads(found, search.below_s)
    if not leads and not found.far_holders:
        return None
    targets = _targets(found, search)
    best: Plan | None = None
    tried = 0
    for done_s, _, worker in leads:
        if best is not None and (done_s >= best.ttft_s or (tried >= WORKERS and not search.every)):
            break
        best, free = _better(found, worker, targets, best, search)
        tried += free
    for least_s, _, worker in promising(found, found.far_holders, best.ttft_s if best else search.below_s, 1.0):
        if best is not None and least_s >= best.ttft_s:
            break
        best, _ = _better(found, worker, targets, best, search)
    return best


def _quick_leads(found: Survey, below_s: float) -> list[tuple[float, InstanceId, InstanceView]]:
    """The least loaded instances by the end of their prefill."""
    known, tokens, times = found.request.cached_tokens, found.request.prompt_tokens, found.times
    leads, profile, whole_s, least_s = [], None, 0.0, 0.0
    for worker in found.far:
        if worker.profile is not profile:
            profile = worker.profile
            whole_s, least_s = times.line(profile)[0], times.overhead_s(profile)
        if worker.queue_s + least_s >= below_s:
            continue
        done_s = worker.queue_s + whole_s
        if known and (cached := known.get(worker.instance_id, 0)):
            done_s = worker.queue_s + times.prefill_s(profile, min(tokens, cached))
        if done_s < below_s:
            leads.append((done_s, worker.instance_id, worker))
    leads.sort()
    return leads


def _targets(found: Survey, search: Search) -> Sequence[Target]:
    """The decode instances that KV may be sent to, in the order in which they are tried."""
    if not found.decode_holders:
        return found.targets
    holders = sorted(found.decode_holders)
    few = holders if search.every else holders[:HOLDERS]
    return [*[(slot_s(i, found.params), i.requests, name, i) for _, name, i in few], *found.targets]


def _better(
    found: Survey, worker: InstanceView, targets: Sequence[Target], best: Plan | None, search: Search
) -> tuple[Plan | None, bool]:
    """The best of one worker's plans and `best`, and whether it has a link that can be relied on."""
    profile, params, links = worker.profile, found.params, found.view.links
    assert profile
    cached, queue_s, source = found.held(worker), worker.queue_s, worker.cluster
    prefill_s = found.times.prefill_s(profile, cached)
    limit_s = best.ttft_s if best else search.below_s
    if queue_s + prefill_s > limit_s:
        return best, True
    ahead = unmade_bytes(found.view.parts[source], profile) / len(found.near)
    tokens, known, tried = found.request.prompt_tokens, found.request.cached_tokens, 0
    for room_s, requests, name, decode in targets:
        link = links.get((source, decode.cluster))
        start_s = max(queue_s, room_s)
        lacking = max(0, tokens - known.get(name, 0)) if known else tokens
        crossing, ttft_s = None, INF
        if link is not None and usable(link, params):
            tried += 1
            if least_cross_s(link, profile, lacking, start_s, prefill_s) <= limit_s:
                crossing = cross(link, params, profile, lacking, (start_s, start_s + prefill_s), ahead)
                ttft_s = crossing.done_s
        if ttft_s <= limit_s and (crossing or search.unseen):
            names = name, worker.instance_id
            plan = Plan(ttft_s, requests, lacking, *names, decode, worker, cached, start_s, prefill_s, crossing)
            if best is None or plan < best:
                best, limit_s = plan, ttft_s
        if tried >= TARGETS and not search.every:
            break
    return best, tried > 0

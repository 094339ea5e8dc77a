"""The quickest plan that prefills in a `prfaas` cluster and sends the KV across a link."""

from prfaas.policy.expect import cross, scarce, unmade_bytes, usable
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


def remote_plan(found: Survey, *, unseen: bool = False, every: bool = False) -> Plan | None:
    """None where no `prfaas` cluster has an instance and a link that can be relied on.

    `unseen`: links do not matter, not even where none is known. `every`: nothing is left out to save time.
    """
    if not found.far:
        return None
    times, targets = found.times, _targets(found, every=every)
    best: Plan | None = None
    tried = 0
    leads = [(i.queue_s + times.prefill_s(i.profile, found.held(i)), i.instance_id, i) for i in found.far if i.profile]
    leads.sort()
    for done_s, _, worker in leads:
        if best is not None and (done_s >= best.ttft_s or (tried >= WORKERS and not every)):
            break
        best, free = _better(found, worker, targets, best, unseen=unseen, every=every)
        tried += free
    for worker in found.far_holders:
        assert worker.profile
        if best is None or worker.queue_s + times.least_s(worker.profile, found.held(worker)) < best.ttft_s:
            best, _ = _better(found, worker, targets, best, unseen=unseen, every=every)
    return best


def _targets(found: Survey, *, every: bool) -> list[Target]:
    """The decode instances that KV may be sent to, in the order in which they are tried."""
    tokens = found.request.prompt_tokens
    targets: list[Target] = [
        (near.room_s, near.decode.requests, tokens - found.held(near.decode), near.decode.instance_id, near.decode)
        for near in found.near.values()
    ]
    targets.sort()
    held = [(tokens - found.held(i), i.requests, i.instance_id, i) for i in found.decode_holders]
    held.sort()
    few = held if every else held[:HOLDERS]
    return [(found.room_s(i), requests, lacking, name, i) for lacking, requests, name, i in few] + targets


def _better(
    found: Survey, worker: InstanceView, targets: list[Target], best: Plan | None, *, unseen: bool, every: bool
) -> tuple[Plan | None, bool]:
    """The best of one worker's plans and `best`, and whether it has a link with bandwidth to spare."""
    profile, params, links = worker.profile, found.params, found.view.links
    assert profile
    cached = found.held(worker)
    prefill_s = found.times.prefill_s(profile, cached)
    ahead = unmade_bytes(found.view.parts[worker.cluster], profile) / len(found.near)
    tried = 0
    for room_s, requests, lacking, name, decode in targets:
        link = links.get((worker.cluster, decode.cluster))
        start_s = max(worker.queue_s, room_s)
        crossing, ttft_s = None, INF
        if usable(link, params):
            assert link
            tried += not scarce(link, params)
            if best is None or start_s + prefill_s + link.rtt_s <= best.ttft_s:
                crossing = cross(link, params, profile, lacking, (start_s, start_s + prefill_s), ahead)
                ttft_s = crossing.done_s
        elif not unseen:
            continue
        if best is None or ttft_s <= best.ttft_s:
            plan = Plan(
                ttft_s,
                requests,
                lacking,
                name,
                worker.instance_id,
                decode,
                worker,
                cached,
                start_s,
                prefill_s,
                crossing,
            )
            best = plan if best is None or plan < best else best
        if tried >= TARGETS and not every:
            break
    return best, tried > 0

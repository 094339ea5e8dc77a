"""The quickest plan whose KV does not leave a cluster. Knows no links."""

from prfaas.policy.plans import Plan
from prfaas.policy.survey import Near, Survey
from prfaas.policy.view import InstanceView


def local_plan(found: Survey) -> Plan:
    """A decode instance prefills itself where it has a prefix, where nobody else can, or where it is to do it all."""
    best = _quicker_of_leads(found)
    if not found.request.whole_on_decode:
        best = _quicker_of_holders(found, best)
    return _quicker_of_decodes(found, best)


def _quicker_of_leads(found: Survey) -> Plan:
    """The least loaded instances of each cluster."""
    best: Plan | None = None
    whole = found.request.whole_on_decode
    for near in found.near.values():
        prefill = None if whole else near.prefill
        if prefill is None:
            plan = _itself(found, near.decode, near.room_s)
        else:
            start_s = max(prefill.queue_s, near.room_s)
            if best is not None and start_s > best.ttft_s:
                continue
            plan = _beside(found, near, prefill)
        if best is None or plan < best:
            best = plan
    assert best
    return best


def _quicker_of_holders(found: Survey, best: Plan) -> Plan:
    """Prefill instances with a prefix, beside the least loaded decode instance of their cluster."""
    least_s = found.times.least_s
    for worker in found.near_holders:
        assert worker.profile
        near = found.near[worker.cluster]
        start_s = max(worker.queue_s, near.room_s)
        if start_s + least_s(worker.profile, found.held(worker)) > best.ttft_s:
            continue
        plan = _beside(found, near, worker)
        if plan < best:
            best = plan
    return best


def _quicker_of_decodes(found: Survey, best: Plan) -> Plan:
    """Decode instances with a prefix, which compute the rest themselves."""
    least_s, slowdown = found.times.least_s, found.params.decode_prefill
    for decode in found.decode_holders:
        assert decode.profile
        if (decode.queue_s + least_s(decode.profile, found.held(decode))) * slowdown > best.ttft_s:
            continue
        plan = _itself(found, decode, found.room_s(decode))
        if plan < best:
            best = plan
    return best


def _beside(found: Survey, near: Near, worker: InstanceView) -> Plan:
    assert worker.profile
    decode, cached = near.decode, found.held(worker)
    start_s = max(worker.queue_s, near.room_s)
    prefill_s = found.times.prefill_s(worker.profile, cached)
    lacking = found.request.prompt_tokens - found.held(decode)
    return Plan(
        start_s + prefill_s,
        decode.requests,
        lacking,
        decode.instance_id,
        worker.instance_id,
        decode,
        worker,
        cached,
        start_s,
        prefill_s,
    )


def _itself(found: Survey, decode: InstanceView, room_s: float) -> Plan:
    assert decode.profile
    cached, slowdown, name = found.held(decode), found.params.decode_prefill, decode.instance_id
    start_s = max(room_s, decode.queue_s * slowdown)
    prefill_s = found.times.prefill_s(decode.profile, cached) * slowdown
    lacking = found.request.prompt_tokens - cached
    return Plan(start_s + prefill_s, decode.requests, lacking, name, name, decode, decode, cached, start_s, prefill_s)

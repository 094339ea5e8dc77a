"""The quickest plan whose KV does not leave a cluster. Knows no links."""

from prfaas.policy.expect import slot_s
from prfaas.policy.leads import Near
from prfaas.policy.plans import INF, Plan
from prfaas.policy.survey import Survey, promising
from prfaas.policy.view import InstanceView


def local_plan(found: Survey) -> Plan:
    """A decode instance prefills itself where it has a prefix, where nobody else can, or where it is to do it all."""
    best = _best_of_leads(found)
    if not found.request.whole_on_decode:
        best = _or_a_holder(found, best)
    return _or_a_decode(found, best)


def _best_of_leads(found: Survey) -> Plan:
    """The least loaded instances of each cluster."""
    request, best, best_s = found.request, None, INF
    tokens, known, whole = request.prompt_tokens, request.cached_tokens, request.whole_on_decode
    best_rank: tuple[int, int, str] = 0, 0, ""
    profile, whole_s, saved_s = None, 0.0, 0.0
    for near in found.near.values():
        decode, room_s, prefill = near
        if prefill is None or whole:
            plan = _itself(found, decode, room_s)
        else:
            if prefill.profile is not profile:
                profile = prefill.profile
                whole_s, saved_s = found.times.line(profile)
            name, ttft_s = decode.instance_id, max(prefill.queue_s, room_s) + whole_s
            if known and (cached := known.get(prefill.instance_id, 0)):
                ttft_s -= min(tokens, cached) * saved_s
            if ttft_s > best_s:
                continue
            # Most often all are idle, and only company and names tell them apart.
            if ttft_s == best_s and best_rank < (decode.requests, tokens - known.get(name, 0), name):
                continue
            plan = _beside(found, near, prefill)
        if best is None or plan < best:
            best, best_s, best_rank = plan, plan.ttft_s, plan[1:4]
    assert best
    return best


def _or_a_holder(found: Survey, best: Plan) -> Plan:
    """Prefill instances with a prefix, beside the least loaded decode instance of their cluster."""
    for least_s, _, worker in promising(found, found.near_holders, best.ttft_s, 1.0):
        if least_s > best.ttft_s:
            break
        plan = _beside(found, found.near[worker.cluster], worker)
        if plan < best:
            best = plan
    return best


def _or_a_decode(found: Survey, best: Plan) -> Plan:
    """Decode instances with a prefix, which compute the rest themselves."""
    for least_s, _, decode in promising(found, found.decode_holders, best.ttft_s, found.params.decode_prefill):
        if least_s > best.ttft_s:
            break
        plan = _itself(found, decode, slot_s(decode, found.params))
        if plan < best:
            best = plan
    return best


def _beside(found: Survey, near: Near, worker: InstanceView) -> Plan:
    decode, room_s, _ = near
    cached = found.held(worker)
    start_s = max(worker.queue_s, room_s)
    prefill_s = found.times.prefill_s(worker.profile, cached)
    lacking = found.request.prompt_tokens - found.held(decode)
    names = decode.instance_id, worker.instance_id
    return Plan(start_s + prefill_s, decode.requests, lacking, *names, decode, worker, cached, start_s, prefill_s)


def _itself(found: Survey, decode: InstanceView, room_s: float) -> Plan:
    cached, slowdown, name = found.held(decode), found.params.decode_prefill, decode.instance_id
    start_s = max(room_s, decode.queue_s * slowdown)
    prefill_s = found.times.prefill_s(decode.profile, cached) * slowdown
    lacking = found.request.prompt_tokens - cached
    names = name, name
    return Plan(start_s + prefill_s, decode.requests, lacking, *names, decode, decode, cached, start_s, prefill_s)

"""The policy of this project: the PrfaaS paper's threshold (s3.4.3) as a guard, expected times as the judge.

Sees links and profiles; reads no clock and keeps nothing from one request to the next.
"""

from prfaas.core.errors import UnavailableError
from prfaas.policy.by_tokens import place_by_tokens
from prfaas.policy.expect import scarce
from prfaas.policy.local_plan import local_plan
from prfaas.policy.plans import (
    Plan,
    link_of,
    with_moved_cache,
)
from prfaas.policy.remote_plan import ANY, Search, remote_plan
from prfaas.policy.survey import Survey, survey
from prfaas.policy.threshold import by_threshold
from prfaas.policy.view import ClusterView, Placement, PlacementRequest, PolicyParams

PATIENCE = 4
"""A queue longer than so many times what is in time takes nobody in for the others' sake: such an overload lasts."""
NO_PROFILES = "; an instance's profile is not known, so the threshold alone decides"


def prfaas(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """The side of the threshold that the prompt is on, unless the other is expected to be quicker by a margin; a short
    prompt crosses only where it would wait for others, not for quicker hardware.

    Uncached tokens are set against `threshold_tokens`: above it the prompt is prefilled in a `prfaas` cluster, if one
    is up and the link from it can be relied on. Bytes that cost money count as time, at `usd_per_ttft_s`. Which tokens
    are uncached depends on the link (s3.4.3): while bandwidth is scarce, or cached prefixes may not be moved, each
    cluster's cache is judged alone; while it is abundant the longest prefix counts wherever it is, and crosses first
    if that is quicker. Where it is known what is `in_time_s`, being in time on one side goes before all margins, and
    what is late on both joins the longer queue.

    Raises UnavailableError when nothing can decode, or when a remote prefill is forced and no `prfaas` cluster is up.
    """
    if not view.profiled:
        plain = place_by_tokens(request, view, params, by_threshold(params))
        return plain if request.force else explained(plain, NO_PROFILES)
    found = survey(request, view, params)
    local = local_plan(found)
    if decided := obeyed(found, local):
        return decided
    uncached = request.prompt_tokens - local.cached
    moves = params.cache_transfers and bool(request.cached_tokens)
    wanted = uncached > params.threshold_tokens or moves
    remote = remote_plan(found, ANY if wanted else Search(below_s=_much_less(local.ttft_s, params)))
    if remote is None:
        return _without_remote(found, local)
    link = link_of(found, remote)
    assert link
    if moves and not scarce(link, params):
        uncached = min(uncached, _uncached_anywhere(found))
        local, remote = with_moved_cache(found, local), with_moved_cache(found, remote)
    return _judged(found, local, remote, uncached)


def obeyed(found: Survey, local: Plan) -> Placement | None:
    """What was asked for, where something was; None: the policy is free."""
    request = found.request
    if request.force == "remote":
        remote = remote_plan(found) or remote_plan(found, Search(unseen=True))
        if remote is None:
            raise UnavailableError("remote prefill was asked for, but no prefill instance of a prfaas cluster is up")
        if not request.whole_on_decode:
            return placed(found, remote, "remote prefill was asked for")
    if request.whole_on_decode:
        return placed(found, local, "logprobs need the prompt computed where it is decoded")
    if request.force == "local":
        return placed(found, local, "local prefill was asked for")
    return None


def placed(found: Survey, plan: Plan, reason: str) -> Placement:
    """A plan as the answer, with what it has cached and what it is expected to take."""
    tokens = found.request.prompt_tokens
    if plan.moved:
        reason += f"; {plan.cached} tokens cached on {plan.moved.source.instance_id} move to {plan.worker_name} first"
    elif plan.cached:
        reason += f"; {plan.worker_name} has {plan.cached} of {tokens} tokens cached"
    elif plan.worker is plan.decode and not found.request.whole_on_decode:
        reason += "; no prefill instance is up there, so the decode instance prefills"
    return Placement(
        plan.decode,
        None if plan.worker is plan.decode else plan.worker,
        tokens - plan.cached,
        reason,
        plan.moved,
        plan.crossing.codec if plan.crossing else "raw",
        found.params.slo_ttft_s,
        plan.expected,
    )


def explained(placement: Placement, more: str) -> Placement:
    """With more to its reason."""
    return Placement(
        placement.decode,
        placement.prefill,
        placement.uncached_tokens,
        placement.reason + more,
        deadline_s=placement.deadline_s,
    )


def _without_remote(found: Survey, local: Plan) -> Placement:
    uncached, threshold = found.request.prompt_tokens - local.cached, found.params.threshold_tokens
    if uncached <= threshold:
        return placed(found, local, f"{uncached} uncached tokens <= threshold {threshold}")
    up = any(part.kind == "prfaas" and part.prefills for part in found.view.parts.values())
    why = "no link from one can be relied on" if up else "no prfaas cluster is up"
    return placed(found, local, f"{uncached} uncached tokens > threshold {threshold}, but {why}")


def _uncached_anywhere(found: Survey) -> int:
    both = found.longest_near(), found.longest_far()
    return found.request.prompt_tokens + min((holder[0] for holder in both if holder), default=0)


def _judged(found: Survey, local: Plan, remote: Plan, uncached: int) -> Placement:
    params = found.params
    above = uncached > params.threshold_tokens
    own, other = (remote, local) if above else (local, remote)
    side = f"{uncached} uncached tokens {'>' if above else '<='} threshold {params.threshold_tokens}"
    cost_s, other_s = _cost_s(own, params), _cost_s(other, params)
    if _late(own, params) and (joined := _late_at_home(found, own, other, side)):
        return joined
    if other_s < _much_less(cost_s, params) and (above or _queued(own, other, params)):
        where = f"in {other.ttft_s:.2f} s from {other.worker.cluster}, not {own.ttft_s:.2f} s from {own.worker.cluster}"
        return placed(found, other, f"{side}, but the first token is expected {where}")
    return placed(found, own, f"{side}; first token expected in {own.ttft_s:.2f} s")


def _queued(own: Plan, other: Plan, params: PolicyParams) -> bool:
    """Whether waiting, and not the hardware, makes the difference: on denser hardware every prompt is quicker, and if
    short ones crossed for that, long ones, which gain more by it, would find it taken."""
    spared_s = (own.ttft_s - own.prefill_s) - (other.ttft_s - other.prefill_s)
    return spared_s > params.margin_s + params.margin * own.prefill_s


def _late_at_home(found: Survey, own: Plan, other: Plan, side: str) -> Placement | None:
    """Of a prompt whose first token is too late on its side of the threshold.

    It goes to the other side if it is in time there. Too late on both, it joins those who wait longest already, unless
    that costs money: anywhere else it would make others late. None where that wait is out of all proportion.
    """
    params = found.params
    times = f"{own.ttft_s:.2f} s from {own.worker.cluster}, {other.ttft_s:.2f} s from {other.worker.cluster}"
    if not _late(other, params):
        chosen = other if _cost_s(other, params) < _cost_s(own, params) else own
        return placed(found, chosen, f"{side}; expected in {times}: in time is {params.in_time_s:g} s")
    chosen = max(own, other, key=lambda plan: (-plan.usd, plan.ttft_s))
    if params.in_time_s is None or chosen.ttft_s > PATIENCE * params.in_time_s:
        return None
    return placed(found, chosen, f"{side}; too late everywhere ({times}), so it joins the longer queue")


def _late(plan: Plan, params: PolicyParams) -> bool:
    return params.in_time_s is not None and plan.ttft_s > params.in_time_s


def _much_less(cost_s: float, params: PolicyParams) -> float:
    """What the other side of the threshold has to be below."""
    return min(cost_s * (1.0 - params.margin), cost_s - params.margin_s)


def _cost_s(plan: Plan, params: PolicyParams) -> float:
    return plan.ttft_s + plan.usd / params.usd_per_ttft_s

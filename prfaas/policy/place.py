"""Placement of one request: the static threshold of the PrfaaS paper (s3.4), each cluster's cache judged alone."""

from collections.abc import Callable, Iterable, Sequence

from prfaas.core.errors import UnavailableError
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams

Policy = Callable[[PlacementRequest, ClusterView, PolicyParams], Placement]

DECODE_PREFILL_COST = 2
"""A token of prefill on a decode instance counts as so many: it slows the decodes there, and is slowed by them."""
CROWD_REQUESTS = 8
"""A decode instance with so many requests more than twice the least is passed over, whatever it has cached."""


def static_threshold(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """Prompts with more than `threshold_tokens` uncached tokens prefill in a `prfaas` cluster, others beside decode.

    Uncached is what the instance that would prefill beside decode has not cached. Of those that may prefill in a
    cluster, the one with the fewest tokens before the answer can begin does: those that wait there, and those of the
    prompt that it would compute. The decode instance is one of them where it has a prefix of the prompt itself (its
    tokens count twice), or where there is no other. It is chosen in the same way, among equals one with a prefix.

    Raises UnavailableError when nothing can decode, or when a remote prefill is forced and no `prfaas` cluster is up.
    """
    usable = [i for i in view.instances if i.instance_id not in request.exclude]
    decodes = _without_crowds([i for i in usable if i.role == "decode"])
    if not decodes:
        raise UnavailableError("no decode instance is up and accepting requests; start one or wait for it")
    prefills = [i for i in usable if i.role == "prefill"]
    beside = {
        cluster: _quickest(request, (i for i in prefills if i.cluster == cluster))
        for cluster in {i.cluster for i in decodes}
    }
    remote = _quickest(request, (i for i in prefills if i.kind == "prfaas"))
    plans = [_plan(request, params, decode, beside[decode.cluster], remote) for decode in decodes]
    return min(plans, key=lambda plan: _cost(request, plan))


def _plan(
    request: PlacementRequest,
    params: PolicyParams,
    decode: InstanceView,
    beside: InstanceView | None,
    remote: InstanceView | None,
) -> Placement:
    """The placement if `decode` decodes."""
    local = beside if beside and not _better_itself(request, decode, beside) else decode
    worker, reason = _choose(request, params, request.prompt_tokens - _cached(request, local), local, remote)
    if request.whole_on_decode and worker is not decode:
        worker = decode
        reason += ", but logprobs need the prompt computed where it is decoded"
    elif worker is decode and beside is None:
        reason += "; no prefill instance is up there, so the decode instance prefills"
    if held := _cached(request, worker):
        reason += f"; {worker.instance_id} has {held} of {request.prompt_tokens} tokens cached"
    return Placement(decode, None if worker is decode else worker, request.prompt_tokens - held, reason)


def _choose(
    request: PlacementRequest,
    params: PolicyParams,
    uncached: int,
    local: InstanceView,
    remote: InstanceView | None,
) -> tuple[InstanceView, str]:
    threshold = params.threshold_tokens
    if request.force == "local":
        return local, "local prefill was asked for"
    if request.force == "remote":
        if remote is None:
            raise UnavailableError("remote prefill was asked for, but no prefill instance of a prfaas cluster is up")
        return remote, "remote prefill was asked for"
    if uncached <= threshold:
        return local, f"{uncached} uncached tokens <= threshold {threshold}"
    if remote is None:
        return local, f"{uncached} uncached tokens > threshold {threshold}, but no prfaas cluster is up"
    return remote, f"{uncached} uncached tokens > threshold {threshold}"


def _cached(request: PlacementRequest, instance: InstanceView) -> int:
    """A directory may lag behind, or err; more than the prompt is never saved."""
    return min(request.cached_tokens.get(instance.instance_id, 0), request.prompt_tokens)


def _better_itself(request: PlacementRequest, decode: InstanceView, beside: InstanceView) -> bool:
    """Whether a decode instance had better compute what it has not cached of a prompt than have another compute all."""
    held = _cached(request, decode)
    itself = decode.waiting_tokens + DECODE_PREFILL_COST * (request.prompt_tokens - held)
    return held > 0 and itself < beside.waiting_tokens + request.prompt_tokens - _cached(request, beside)


def _quickest(request: PlacementRequest, instances: Iterable[InstanceView]) -> InstanceView | None:
    """The name decides between equals, so that equal views give equal placements."""
    return min(
        instances,
        key=lambda i: (i.waiting_tokens - _cached(request, i), _requests(i), i.instance_id),
        default=None,
    )


def _cost(request: PlacementRequest, plan: Placement) -> tuple[int, int, int, str]:
    """The least is best: tokens before the first of the answer, then requests to share the decode instance with."""
    tokens = plan.decode.waiting_tokens + plan.uncached_tokens + (plan.prefill.waiting_tokens if plan.prefill else 0)
    return tokens, _requests(plan.decode), -_cached(request, plan.decode), plan.decode.instance_id


def _without_crowds(decodes: Sequence[InstanceView]) -> Sequence[InstanceView]:
    """A prefix that everybody shares must not draw everybody to the one instance that has it."""
    limit = 2 * min((_requests(i) for i in decodes), default=0) + CROWD_REQUESTS
    return [i for i in decodes if _requests(i) <= limit]


def _requests(instance: InstanceView) -> int:
    return instance.waiting_requests + instance.running_requests


POLICIES: dict[str, Policy] = {"static_threshold": static_threshold}


def place(request: PlacementRequest, view: ClusterView, params: PolicyParams, policy: str) -> Placement:
    """Applies the policy called `policy`; router, planner and simulator all come through here."""
    return POLICIES[policy](request, view, params)

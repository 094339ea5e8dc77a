"""Placement of one request: the static threshold of the PrfaaS paper (s3.4), each cluster's cache judged alone."""

from collections.abc import Callable, Iterable

from prfaas.core.errors import UnavailableError
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams

Policy = Callable[[PlacementRequest, ClusterView, PolicyParams], Placement]


def static_threshold(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """Prompts with more than `threshold_tokens` uncached tokens prefill in a `prfaas` cluster, others beside decode.

    Raises UnavailableError when nothing can decode, or when a remote prefill is forced and no `prfaas` cluster is up.
    """
    usable = [i for i in view.instances if i.instance_id not in request.exclude]
    decode = _least_loaded(i for i in usable if i.role == "decode")
    if decode is None:
        raise UnavailableError("no decode instance is up and accepting requests; start one or wait for it")
    local = _least_loaded(i for i in usable if i.role == "prefill" and i.cluster == decode.cluster)
    remote = _least_loaded(i for i in usable if i.role == "prefill" and i.kind == "prfaas")
    uncached = max(0, request.prompt_tokens - request.cached_tokens.get(decode.cluster, 0))
    prefill, reason = _choose(request, params, uncached, local, remote)
    if prefill is None:
        reason += "; no prefill instance is up there, so the decode instance prefills"
    return Placement(decode, prefill, uncached, reason)


def _choose(
    request: PlacementRequest,
    params: PolicyParams,
    uncached: int,
    local: InstanceView | None,
    remote: InstanceView | None,
) -> tuple[InstanceView | None, str]:
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


def _least_loaded(instances: Iterable[InstanceView]) -> InstanceView | None:
    """The shortest queue wins; the name decides between equals, so that equal views give equal placements."""
    return min(
        instances,
        key=lambda i: (i.waiting_tokens, i.waiting_requests + i.running_requests, i.instance_id),
        default=None,
    )


POLICIES: dict[str, Policy] = {"static_threshold": static_threshold}


def place(request: PlacementRequest, view: ClusterView, params: PolicyParams, policy: str) -> Placement:
    """Applies the policy called `policy`; router, planner and simulator all come through here."""
    return POLICIES[policy](request, view, params)

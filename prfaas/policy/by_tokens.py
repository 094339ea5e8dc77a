"""Placement where nobody knows what a prompt takes: tokens that wait stand for time. Knows no profiles and no links."""

from collections.abc import Callable

from prfaas.core.errors import UnavailableError
from prfaas.policy.candidates import crowd_limit, decodes, held, holders, quickest, workers
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams

Side = Callable[[int, InstanceView | None], tuple[bool, str]]
"""Uncached tokens, and the best prefill instance of a `prfaas` cluster if one is up → whether it is to be that one, and
why."""


def place_by_tokens(request: PlacementRequest, view: ClusterView, params: PolicyParams, side: Side) -> Placement:
    """The plan with the fewest tokens before the answer can begin, on the side that `side` says.

    Uncached is what the instance that would prefill beside decode has not cached. Of those that may prefill in a
    cluster, the one with the fewest tokens before the answer can begin does: those that wait there, and those of the
    prompt that it would compute. The decode instance is one of them where it has a prefix of the prompt itself (its
    tokens count `decode_prefill` times), or where there is no other. It is chosen in the same way, among equals one
    with a prefix.

    Raises UnavailableError when nothing can decode, or when a remote prefill is forced and no `prfaas` cluster is up.
    """
    limit = crowd_limit(request, view)
    found = holders(request, view)
    parts = view.parts.values()
    remote = quickest(request, (i for part in parts if part.kind == "prfaas" for i in workers(request, part, found)))
    side = _forced(request, remote) or side
    best: tuple[tuple[float, int, int, str], InstanceView, InstanceView, InstanceView | None] | None = None
    for part in parts:
        if not part.decodes:
            continue
        beside = quickest(request, workers(request, part, found))
        for decode in decodes(request, part, found, limit):
            worker = _worker(request, params, side, decode, beside, remote)
            cost = _cost(request, decode, worker)
            if best is None or cost < best[0]:
                best = cost, decode, worker, beside
    assert best
    _, decode, worker, beside = best
    return Placement(
        decode,
        None if worker is decode else worker,
        request.prompt_tokens - held(request, worker),
        _reason(request, params, side, decode, worker, beside, remote),
        deadline_s=params.slo_ttft_s,
    )


def _forced(request: PlacementRequest, remote: InstanceView | None) -> Side | None:
    if request.force is None:
        return None
    if request.force == "local":
        return lambda _uncached, _remote: (False, "local prefill was asked for")
    if remote is None:
        raise UnavailableError("remote prefill was asked for, but no prefill instance of a prfaas cluster is up")
    return lambda _uncached, _remote: (True, "remote prefill was asked for")


def _local(
    request: PlacementRequest, params: PolicyParams, decode: InstanceView, beside: InstanceView | None
) -> InstanceView:
    """Who prefills in the decode instance's cluster: `beside`, unless it had better compute what it lacks itself."""
    if beside is None:
        return decode
    cached = held(request, decode)
    itself = decode.waiting_tokens + params.decode_prefill * (request.prompt_tokens - cached)
    better = cached > 0 and itself < beside.waiting_tokens + request.prompt_tokens - held(request, beside)
    return decode if better else beside


def _worker(
    request: PlacementRequest,
    params: PolicyParams,
    side: Side,
    decode: InstanceView,
    beside: InstanceView | None,
    remote: InstanceView | None,
) -> InstanceView:
    if request.whole_on_decode:
        return decode
    local = _local(request, params, decode, beside)
    crosses, _ = side(request.prompt_tokens - held(request, local), remote)
    return remote if crosses and remote else local


def _cost(request: PlacementRequest, decode: InstanceView, worker: InstanceView) -> tuple[float, int, int, str]:
    """The least is best: tokens before the first of the answer, then requests to share the decode instance with."""
    waiting = decode.waiting_tokens + (0 if worker is decode else worker.waiting_tokens)
    tokens = waiting + request.prompt_tokens - held(request, worker)
    return tokens, decode.requests, -held(request, decode), decode.instance_id


def _reason(
    request: PlacementRequest,
    params: PolicyParams,
    side: Side,
    decode: InstanceView,
    worker: InstanceView,
    beside: InstanceView | None,
    remote: InstanceView | None,
) -> str:
    local = _local(request, params, decode, beside)
    crosses, reason = side(request.prompt_tokens - held(request, local), remote)
    if request.whole_on_decode and (local is not decode or crosses):
        reason += ", but logprobs need the prompt computed where it is decoded"
    elif worker is decode and beside is None:
        reason += "; no prefill instance is up there, so the decode instance prefills"
    if cached := held(request, worker):
        reason += f"; {worker.instance_id} has {cached} of {request.prompt_tokens} tokens cached"
    return reason

"""Policies to compare with: each takes one thing away from `prfaas`, or, as the oracle, takes what nobody can know."""

from prfaas.policy.by_tokens import Side, place_by_tokens
from prfaas.policy.local_plan import local_plan
from prfaas.policy.plans import Plan, with_moved_cache
from prfaas.policy.prfaas import obeyed, placed
from prfaas.policy.remote_plan import Search, remote_plan
from prfaas.policy.survey import Survey, survey
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams

NOBODY_REMOTE = "no prfaas cluster is up"


def local_only(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """Nothing crosses: the quickest plan of one cluster, as in homogeneous PD. Raises UnavailableError."""
    if not view.profiled:
        return place_by_tokens(request, view, params, lambda _uncached, _remote: (False, "nothing is offloaded"))
    found = survey(request, view, params)
    local = local_plan(found)
    return obeyed(found, local) or placed(found, local, "nothing is offloaded")


def all_remote(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """Every prompt is prefilled in a `prfaas` cluster where one is up, whatever its link: the paper's naive
    heterogeneous deployment (table 6). Raises UnavailableError.
    """
    if not view.profiled:
        return place_by_tokens(request, view, params, _always)
    found = survey(request, view, params)
    local = local_plan(found)
    if decided := obeyed(found, local):
        return decided
    remote = remote_plan(found) or remote_plan(found, Search(unseen=True))
    if remote is None:
        return placed(found, local, f"everything is offloaded, but {NOBODY_REMOTE}")
    return placed(found, remote, "everything is offloaded")


def isl_or_load(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """Conditional disaggregation as NVIDIA Dynamo has it: a prompt is prefilled remotely if more than a fixed number of
    its tokens are uncached and the remote prefill queue is below a fixed limit; `remote_min_tokens` and
    `remote_max_waiting_tokens`. Links are not looked at, but for one that is known to be of no use.

    Raises UnavailableError.
    """
    if not view.profiled:
        return place_by_tokens(request, view, params, _by_length_and_queue(params))
    found = survey(request, view, params)
    local = local_plan(found)
    if decided := obeyed(found, local):
        return decided
    remote = remote_plan(found)
    worker = remote.worker if remote else None
    crosses, why = _by_length_and_queue(params)(request.prompt_tokens - local.cached, worker)
    return placed(found, remote if remote and crosses else local, why)


def oracle(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """The least expected time to the first token, of all plans: no threshold, no margins, no money.

    Only the simulator can give it the perfect view that this takes. Raises UnavailableError.
    """
    if not view.profiled:
        return place_by_tokens(request, view, params, lambda _uncached, _remote: (False, "nobody knows what it takes"))
    found = survey(request, view, params)
    local = local_plan(found)
    if decided := obeyed(found, local):
        return decided
    best = min(_any(found, local))
    return placed(found, best, f"first token expected in {best.ttft_s:.2f} s, sooner than any other way")


def _any(found: Survey, local: Plan) -> list[Plan]:
    remote = remote_plan(found, Search(every=True))
    plans = [local, remote] if remote else [local]
    return [with_moved_cache(found, plan) for plan in plans] if found.params.cache_transfers else plans


def _always(uncached: int, remote: InstanceView | None) -> tuple[bool, str]:
    if remote is None:
        return False, f"everything is offloaded, but {NOBODY_REMOTE}"
    return True, f"everything is offloaded, {uncached} uncached tokens too"


def _by_length_and_queue(params: PolicyParams) -> Side:
    least, most = params.remote_min_tokens, params.remote_max_waiting_tokens

    def side(uncached: int, remote: InstanceView | None) -> tuple[bool, str]:
        if uncached <= least:
            return False, f"{uncached} uncached tokens <= remote_min_tokens {least}"
        if remote is None:
            return False, f"{uncached} uncached tokens > remote_min_tokens {least}, but {NOBODY_REMOTE}"
        if remote.waiting_tokens >= most:
            return (
                False,
                f"{remote.waiting_tokens} tokens wait on {remote.instance_id}, remote_max_waiting_tokens {most}",
            )
        return True, f"{uncached} uncached tokens > remote_min_tokens {least}"

    return side

"""Placement of one request by a policy's name. Knows no policy's inside."""

from collections.abc import Callable

from prfaas.policy.prfaas import prfaas
from prfaas.policy.threshold import static_threshold
from prfaas.policy.variants import all_remote, isl_or_load, local_only, oracle
from prfaas.policy.view import ClusterView, Placement, PlacementRequest, PolicyParams

Policy = Callable[[PlacementRequest, ClusterView, PolicyParams], Placement]

POLICIES: dict[str, Policy] = {
    "prfaas": prfaas,
    "static_threshold": static_threshold,
    "local_only": local_only,
    "all_remote": all_remote,
    "isl_or_load": isl_or_load,
    "oracle": oracle,
}
"""`oracle` is for the simulator only: a fleet file cannot name it."""


def place(request: PlacementRequest, view: ClusterView, params: PolicyParams, policy: str) -> Placement:
    """Applies the policy called `policy`; router, planner and simulator all come through here.

    Total: raises UnavailableError when nothing can decode, or when a remote prefill is forced and nobody could do it.
    """
    return POLICIES[policy](request, view, params)

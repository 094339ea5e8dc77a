"""The static threshold of the PrfaaS paper (s3.4), each cluster's cache judged alone. Knows no seconds and no links."""

from prfaas.policy.by_tokens import Side, place_by_tokens
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams


def static_threshold(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Placement:
    """Prompts with more than `threshold_tokens` uncached tokens prefill in a `prfaas` cluster, others beside decode.

    Raises UnavailableError when nothing can decode, or when a remote prefill is forced and no `prfaas` cluster is up.
    """
    return place_by_tokens(request, view, params, by_threshold(params))


def by_threshold(params: PolicyParams) -> Side:
    """Remote above the threshold, where somebody is there."""
    threshold = params.threshold_tokens

    def side(uncached: int, remote: InstanceView | None) -> tuple[bool, str]:
        if uncached <= threshold:
            return False, f"{uncached} uncached tokens <= threshold {threshold}"
        if remote is None:
            return False, f"{uncached} uncached tokens > threshold {threshold}, but no prfaas cluster is up"
        return True, f"{uncached} uncached tokens > threshold {threshold}"

    return side

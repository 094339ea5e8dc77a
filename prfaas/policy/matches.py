"""Which of the instances that hold a prefix of a prompt are worth a look, where very many do."""

from collections.abc import Mapping

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.view import ClusterView

MANY = 64
"""Matches of which a policy looks at all."""
FEW = 2
"""Of each cluster, where there are more."""


def longest(
    cached_tokens: Mapping[InstanceId, int], view: ClusterView, few: int = FEW
) -> tuple[tuple[InstanceId, int], ...] | None:
    """The `few` instances of each cluster with the longest prefixes, for `PlacementRequest.longest`.

    None where the matches are so few that all can be looked at. Whoever makes the request calls this: the time that
    it takes grows with the matches, as that of finding them does, and not that of placing.
    """
    if len(cached_tokens) <= MANY:
        return None
    found: list[tuple[InstanceId, int]] = []
    counts: dict[ClusterName, int] = {}
    for instance_id in sorted(cached_tokens, key=lambda i: (-cached_tokens[i], i)):
        if (home := view.homes.get(instance_id)) is not None and counts.get(home, 0) < few:
            counts[home] = counts.get(home, 0) + 1
            found.append((instance_id, cached_tokens[instance_id]))
    return tuple(found)

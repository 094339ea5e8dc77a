"""The least loaded instances of each cluster, which every request is set against. Knows no request, links or seconds.

A view works them out once: of a thousand instances, a placement looks at these and at those that hold a prefix.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.instance_view import InstanceView
from prfaas.policy.part import ClusterPart

CROWD_REQUESTS = 8
"""A decode instance with so many requests more than twice the least is passed over, whatever it has cached."""

Near = tuple[InstanceView, float, InstanceView | None]
"""Of a cluster that can decode: its least loaded decode instance, the seconds until that has room for one more, and its
least loaded prefill instance."""
Target = tuple[float, int, InstanceId, InstanceView]
"""A decode instance: seconds until it has room, its requests, its name, itself."""


@dataclass(frozen=True, slots=True)
class Leads:
    """Of all clusters that have an instance."""

    near: Mapping[ClusterName, Near]
    """Of those that can decode, but for crowded ones, those with the fewest requests first; as if each had room."""
    targets: tuple[Target, ...]
    """The decode instances of `near`, in the same order."""
    far: tuple[InstanceView, ...]
    """The least loaded prefill instance of each `prfaas` cluster."""
    crowd_limit: int
    """Requests above which a decode instance is passed over."""
    full: bool
    """Whether one of `near` may have no room."""
    profiled: bool
    """Whether it is known of every instance what a prompt takes it."""

    @classmethod
    def of(cls, parts: Collection[ClusterPart], exclude: frozenset[InstanceId] = frozenset()) -> "Leads":
        """Without those that are in `exclude`."""
        found: list[tuple[int, InstanceId, InstanceView, InstanceView | None]] = []
        far, profiled = [], True
        for part in parts:
            prefills, decodes = part.prefills, part.decodes
            prefill = first(prefills, exclude) if exclude else prefills[0] if prefills else None
            if prefill is not None and part.kind == "prfaas":
                far.append(prefill)
            if decodes and (decode := first(decodes, exclude) if exclude else decodes[0]):
                found.append((decode.requests, decode.instance_id, decode, prefill))
            if part.unprofiled:
                profiled = False
        found.sort()
        limit = crowd_limit_of(found[0][0]) if found else 0
        near: dict[ClusterName, Near] = {}
        targets: list[Target] = []
        full = False
        for requests, name, decode, prefill in found:
            if requests > limit:
                break
            near[decode.cluster] = decode, 0.0, prefill
            targets.append((0.0, requests, name, decode))
            if requests >= decode.max_running:
                full = True
        return cls(near, tuple(targets), tuple(far), limit, full, profiled)


def alike(one: ClusterPart, other: ClusterPart) -> bool:
    """Whether two states of a cluster make the same leads."""
    return (
        one.unprofiled == other.unprofiled
        and first(one.prefills) is first(other.prefills)
        and first(one.decodes) is first(other.decodes)
        and one.kind == other.kind
    )


def crowd_limit_of(least: int) -> int:
    """A prefix that everybody shares must not draw everybody to the one instance that has it."""
    return 2 * least + CROWD_REQUESTS


def first(views: tuple[InstanceView, ...], exclude: frozenset[InstanceId] = frozenset()) -> InstanceView | None:
    """The first that is not excluded."""
    for instance in views:
        if not exclude or instance.instance_id not in exclude:
            return instance
    return None

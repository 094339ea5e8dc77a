"""One cluster's instances in the order in which a policy looks at them. Knows no other cluster."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.instance_view import ClusterKind, InstanceView

Order = Callable[[InstanceView], tuple[int, int, str]]
Views = tuple[InstanceView, ...]


@dataclass(frozen=True, slots=True)
class ClusterPart:
    """One cluster's instances by role, the least loaded first."""

    name: ClusterName
    kind: ClusterKind
    members: Mapping[InstanceId, InstanceView] = field(default_factory=dict)
    prefills: Views = ()
    """By tokens that wait, then requests, then name."""
    decodes: Views = ()
    """By requests, then tokens that wait, then name."""
    beyond_slots: int = 0
    """Requests that decode instances have and cannot run yet."""

    @classmethod
    def of(cls, name: ClusterName, members: Iterable[InstanceView]) -> "ClusterPart":
        """`members`: at least one, all of this cluster."""
        by_id = {i.instance_id: i for i in members}
        kind = next(iter(by_id.values())).kind
        prefills = sorted((i for i in by_id.values() if i.role == "prefill"), key=_by_tokens)
        decodes = sorted((i for i in by_id.values() if i.role == "decode"), key=_by_requests)
        return cls(name, kind, by_id, tuple(prefills), tuple(decodes), sum(i.beyond_slots for i in decodes))

    def updated(self, instance: InstanceView) -> "ClusterPart":
        """With one instance taken in, in the place of an earlier view of it."""
        old = self.members.get(instance.instance_id)
        members = {**self.members, instance.instance_id: instance}
        return self._changed(members, old, instance)

    def without(self, instance_id: InstanceId) -> "ClusterPart":
        members = {name: view for name, view in self.members.items() if name != instance_id}
        return self._changed(members, self.members[instance_id], None)

    def _changed(
        self, members: Mapping[InstanceId, InstanceView], old: InstanceView | None, new: InstanceView | None
    ) -> "ClusterPart":
        roles = {i.role for i in (old, new) if i}
        prefills = _replaced(self.prefills, old, new, _by_tokens, "prefill") if "prefill" in roles else self.prefills
        decodes, beyond = self.decodes, self.beyond_slots
        if "decode" in roles:
            decodes = _replaced(self.decodes, old, new, _by_requests, "decode")
            beyond += sum(i.beyond_slots * sign for i, sign in ((old, -1), (new, 1)) if i and i.role == "decode")
        return ClusterPart(self.name, self.kind, members, prefills, decodes, beyond)


def _by_tokens(instance: InstanceView) -> tuple[int, int, str]:
    return instance.waiting_tokens, instance.requests, instance.instance_id


def _by_requests(instance: InstanceView) -> tuple[int, int, str]:
    return instance.requests, instance.waiting_tokens, instance.instance_id


def _replaced(views: Views, old: InstanceView | None, new: InstanceView | None, order: Order, role: str) -> Views:
    changed = list(views)
    if old and old.role == role:
        del changed[bisect_left(changed, order(old), key=order)]
    if new and new.role == role:
        insort(changed, new, key=order)
    return tuple(changed)

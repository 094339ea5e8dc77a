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
    waiting_tokens: int = 0
    """At prefill instances."""
    waiting_requests: int = 0
    """At prefill instances."""
    unprofiled: int = 0
    """Instances of which nobody knows what a prompt takes them."""

    @classmethod
    def of(cls, name: ClusterName, members: Iterable[InstanceView]) -> "ClusterPart":
        """`members`: at least one, all of this cluster."""
        by_id = {i.instance_id: i for i in members}
        prefills = sorted((i for i in by_id.values() if i.role == "prefill"), key=_by_tokens)
        decodes = sorted((i for i in by_id.values() if i.role == "decode"), key=_by_requests)
        return cls(
            name=name,
            kind=next(iter(by_id.values())).kind,
            members=by_id,
            prefills=tuple(prefills),
            decodes=tuple(decodes),
            beyond_slots=sum(i.beyond_slots for i in decodes),
            waiting_tokens=sum(i.waiting_tokens for i in prefills),
            waiting_requests=sum(i.waiting_requests for i in prefills),
            unprofiled=sum(i.profile is None for i in by_id.values()),
        )

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
        prefills, decodes = self.prefills, self.decodes
        beyond, tokens, requests, unprofiled = (
            self.beyond_slots,
            self.waiting_tokens,
            self.waiting_requests,
            self.unprofiled,
        )
        for instance, sign in ((old, -1), (new, 1)):
            if instance is None:
                continue
            unprofiled += sign * (instance.profile is None)
            if instance.role == "decode":
                decodes = _changed(decodes, instance, sign, _by_requests)
                beyond += sign * instance.beyond_slots
            else:
                prefills = _changed(prefills, instance, sign, _by_tokens)
                tokens += sign * instance.waiting_tokens
                requests += sign * instance.waiting_requests
        return ClusterPart(self.name, self.kind, members, prefills, decodes, beyond, tokens, requests, unprofiled)


def _by_tokens(instance: InstanceView) -> tuple[int, int, str]:
    return instance.waiting_tokens, instance.requests, instance.instance_id


def _by_requests(instance: InstanceView) -> tuple[int, int, str]:
    return instance.requests, instance.waiting_tokens, instance.instance_id


def _changed(views: Views, instance: InstanceView, sign: int, order: Order) -> Views:
    """Taken out (-1) or put in (1), where its load places it."""
    changed = list(views)
    if sign < 0:
        del changed[bisect_left(changed, order(instance), key=order)]
    else:
        insort(changed, instance, key=order)
    return tuple(changed)

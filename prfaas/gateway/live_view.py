"""The view of the fleet that requests are placed by, kept up to date one instance at a time. Its clock is its caller's.

A fleet of a thousand instances is heard a thousand times a second, and asked for as often: nothing here walks all of
them unless one has fallen silent.
"""

from collections.abc import Iterable, Mapping

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.counted_view import CountedView
from prfaas.policy.outstanding import Ticket
from prfaas.policy.view import ClusterView, InstanceView, LinkView, Placement

Ends = tuple[ClusterName, ClusterName]


class LiveView:
    """Instances that may get new requests: heard of within `stale_after_s`, and not draining."""

    def __init__(self, stale_after_s: float, described: Mapping[Ends, LinkView]) -> None:
        """`described`: links as they are until somebody measures them."""
        self._stale_after_s = stale_after_s
        self._described = described
        self._counted = CountedView(described.values())
        self._seen: dict[InstanceId, float] = {}
        self._oldest_s = float("inf")
        """No instance was heard of before."""
        self.members = 0
        """Rises whenever an instance comes or goes."""

    def put(self, instance: InstanceView, now_s: float) -> None:
        """It is there, as it says at this moment."""
        if instance.instance_id not in self._seen:
            self.members += 1
        self._seen[instance.instance_id] = now_s
        self._oldest_s = min(self._oldest_s, now_s)
        self._counted.heard(instance)

    def reprofiled(self, instances: Iterable[InstanceView]) -> None:
        """All as they were last heard, but what a prompt takes them is known otherwise now. Those that are not in the
        view stay outside. At once: one by one a thousand would take too long."""
        shown = [instance for instance in instances if instance.instance_id in self._seen]
        self._counted.heard_all(shown, self._counted.view.links.values())

    def drop(self, instance_id: InstanceId) -> None:
        """It gets no new requests; once is enough, more does no harm."""
        if self._seen.pop(instance_id, None) is not None:
            self.members += 1
            self._counted.hide(instance_id)

    def forget(self, instance_id: InstanceId) -> None:
        """It is gone, with all that was placed there."""
        self.drop(instance_id)
        self._counted.forget(instance_id)

    @property
    def outstanding(self) -> int:
        """Requests that were placed and have not ended."""
        return self._counted.outstanding

    def placed(self, placement: Placement) -> Ticket:
        """A request counts as load, wherever heartbeats do not count it, as long as its instances have it."""
        return self._counted.placed(placement)

    def first_token(self, ticket: Ticket) -> None:
        """Its prompt is prefilled."""
        self._counted.first_token(ticket)

    def ended(self, ticket: Ticket) -> None:
        """Its instances are done with it."""
        self._counted.ended(ticket)

    def measured(self, links: Iterable[LinkView]) -> None:
        """What is measured takes the place of what is described."""
        known = {(link.source, link.target): link for link in links}
        self._counted.linked({**self._described, **known}.values())

    def at(self, now_s: float) -> ClusterView:
        """Without those that have fallen silent."""
        if now_s - self._oldest_s >= self._stale_after_s:
            for instance_id, seen_s in list(self._seen.items()):
                if now_s - seen_s >= self._stale_after_s:
                    self.drop(instance_id)
            self._oldest_s = min(self._seen.values(), default=float("inf"))
        return self._counted.view

"""A router's view of its fleet: what heartbeats say, and what it placed that they do not count. Knows no clock.

The live router and the simulated one keep their views here.
"""

from collections.abc import Iterable
from itertools import count

from prfaas.core.ids import InstanceId
from prfaas.policy.instance_view import InstanceView
from prfaas.policy.outstanding import Outstanding, Ticket
from prfaas.policy.view import ClusterView, LinkView, Placement


class CountedView:
    """A request counts at its prefill instance until its first token, at its decode instance until it has ended.

    What is over counts until the instance is heard again, as does all that a heartbeat tells of: an instance that fails
    whatever it is given does not look idle. Where a decode instance computes a prompt that was placed elsewhere, both
    count it until the first token, for the router does not hear of that earlier.
    """

    def __init__(self, links: Iterable[LinkView] = ()) -> None:
        self.view = ClusterView.of((), links)
        self._instances: dict[InstanceId, Outstanding] = {}
        self._placed: dict[Ticket, tuple[InstanceId, InstanceId | None]] = {}
        """Where a request decodes, and where it is prefilled if that is elsewhere."""
        self._tickets = count()

    @property
    def outstanding(self) -> int:
        """Requests that were placed and have not ended."""
        return len(self._placed)

    def heard(self, heartbeat: InstanceView) -> None:
        """An instance says how it stands; from now on it is in the view."""
        self.view = self.view.updated(self._counted(heartbeat))

    def heard_all(self, heartbeats: Iterable[InstanceView], links: Iterable[LinkView]) -> None:
        """All that are to be in the view, at once."""
        self.view = ClusterView.of([self._counted(heartbeat) for heartbeat in heartbeats], links)

    def hide(self, instance_id: InstanceId) -> None:
        """It is to get nothing new; what it has counts again when it is heard again."""
        self.view = self.view.without(instance_id)

    def forget(self, instance_id: InstanceId) -> None:
        """It is gone, with all that it had; whoever is heard under its name begins with nothing."""
        self.hide(instance_id)
        self._instances.pop(instance_id, None)

    def linked(self, links: Iterable[LinkView]) -> None:
        """In the place of all links that were known."""
        self.view = self.view.with_links(links)

    def placed(self, placement: Placement) -> Ticket:
        """A request is on its way to its instances."""
        ticket, decode, worker = next(self._tickets), placement.decode.instance_id, placement.prefill
        self._add(ticket, decode, 0 if worker else placement.uncached_tokens)
        if worker:
            self._add(ticket, worker.instance_id, placement.uncached_tokens)
        self._placed[ticket] = decode, worker.instance_id if worker else None
        self.view = self.view.after(placement)
        return ticket

    def first_token(self, ticket: Ticket) -> None:
        """Its prompt is prefilled. Once is enough, more does no harm; nor does it after its end."""
        if ends := self._placed.get(ticket):
            decode, worker = ends
            if worker is not None:
                self._remove(ticket, worker)
            elif instance := self._instances.get(decode):
                instance.prefilled(ticket)

    def ended(self, ticket: Ticket) -> None:
        """It needs nothing more, whatever the reason. Once is enough, more does no harm."""
        for instance_id in self._placed.pop(ticket, ()):
            if instance_id is not None:
                self._remove(ticket, instance_id)

    def _counted(self, heartbeat: InstanceView) -> InstanceView:
        return self._instances.setdefault(heartbeat.instance_id, Outstanding()).counted(heartbeat)

    def _add(self, ticket: Ticket, instance_id: InstanceId, tokens: int) -> None:
        if instance := self._instances.get(instance_id):
            instance.add(ticket, tokens)

    def _remove(self, ticket: Ticket, instance_id: InstanceId) -> None:
        if instance := self._instances.get(instance_id):
            instance.remove(ticket)

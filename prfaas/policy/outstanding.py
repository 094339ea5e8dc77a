"""What a router placed on one instance, and what of it the instance's heartbeats do not count. Knows no other instance.

A prompt that is prefilled elsewhere comes to its prefill instance only when the decode instance has reserved pages for
it. Where memory is short that takes many heartbeats, none of which can count the prompt: the instance looks idle, and
would be given everything.
"""

from collections.abc import Mapping
from itertools import islice

from prfaas.policy.instance_view import InstanceView

Ticket = int
"""Names one placement of one request."""


def uncounted(own: Mapping[Ticket, int], heartbeat_requests: int) -> dict[Ticket, int]:
    """Those of `own`, in order of placement, that a heartbeat with so many requests has no room for: the newest.

    The instance then has max(heartbeat, own) requests. Of several routers each sees too few that way, and none counts
    a request twice.
    """
    missing = max(0, len(own) - heartbeat_requests)
    newest = list(islice(reversed(own.items()), missing))
    return dict(reversed(newest))


class Outstanding:
    """One router's requests on one instance. `own` are tokens to prefill there, by ticket, in order of placement."""

    __slots__ = ("_heartbeat", "_own", "_uncounted")

    def __init__(self, heartbeat: InstanceView) -> None:
        self._heartbeat = heartbeat
        self._own: dict[Ticket, int] = {}
        self._uncounted: dict[Ticket, int] = {}

    def heard(self, heartbeat: InstanceView) -> None:
        """What was placed before it and is not in it counts on."""
        self._heartbeat = heartbeat
        self._uncounted = uncounted(self._own, heartbeat.requests)

    def add(self, ticket: Ticket, tokens: int) -> None:
        """No heartbeat so far can know of it."""
        self._own[ticket] = self._uncounted[ticket] = tokens

    def prefilled(self, ticket: Ticket) -> bool:
        """It is still there, but its prompt waits no more. True: the view is another now."""
        if not self._own.get(ticket):
            return False
        self._own[ticket] = 0
        if ticket not in self._uncounted:
            return False
        self._uncounted[ticket] = 0
        return True

    def remove(self, ticket: Ticket) -> bool:
        """It is no longer there. True: the view is another now."""
        self._own.pop(ticket, None)
        return self._uncounted.pop(ticket, None) is not None

    def view(self) -> InstanceView:
        """As its last heartbeat described it, and what that could not count."""
        if not self._uncounted:
            return self._heartbeat
        return self._heartbeat.plus(len(self._uncounted), sum(self._uncounted.values()))

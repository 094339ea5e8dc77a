"""What a router placed on one instance, and what of it the instance's heartbeats do not count. Knows no other instance.

A prompt that is prefilled elsewhere comes to its prefill instance only when the decode instance has reserved pages for
it. Where memory is short that takes many heartbeats, none of which can count the prompt: the instance looks idle, and
would be given everything.
"""

from itertools import islice

from prfaas.policy.instance_view import InstanceView

Ticket = int
"""Names one placement of one request."""


def uncounted(own: dict[Ticket, int], heartbeat_requests: int) -> tuple[int, int]:
    """How many of `own` a heartbeat with so many requests has no room for, and the tokens of so many, the newest.

    The instance then has max(heartbeat, own) requests. Of several routers each sees too few that way, and none counts
    a request twice.
    """
    missing = max(0, len(own) - heartbeat_requests)
    return missing, sum(islice(reversed(own.values()), missing))


class Outstanding:
    """One router's requests on one instance."""

    __slots__ = ("_own",)

    def __init__(self) -> None:
        self._own: dict[Ticket, int] = {}
        """Tokens to be prefilled there, in order of placement."""

    def add(self, ticket: Ticket, tokens: int) -> None:
        self._own[ticket] = tokens

    def prefilled(self, ticket: Ticket) -> None:
        """It is still there, but its prompt waits no more."""
        if ticket in self._own:
            self._own[ticket] = 0

    def remove(self, ticket: Ticket) -> None:
        """It is no longer there; once is enough, more does no harm."""
        self._own.pop(ticket, None)

    def counted(self, heartbeat: InstanceView) -> InstanceView:
        """The instance with what was placed on it and is not in its latest heartbeat."""
        requests, tokens = uncounted(self._own, heartbeat.requests)
        return heartbeat.plus(requests, tokens) if requests else heartbeat

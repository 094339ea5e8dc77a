"""Places arrivals as the live router does: by heartbeats, and by what it placed that they do not count."""

from collections.abc import Mapping
from dataclasses import replace

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import InstanceId
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.fleet import Fleet
from prfaas.planner.simulate.holders import Holders
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.way import Ends, Way
from prfaas.policy.admit import Refusal, admit
from prfaas.policy.counted_view import CountedView
from prfaas.policy.matches import longest
from prfaas.policy.outstanding import Ticket
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, Placement, PlacementRequest, PolicyParams

ORACLE = "oracle"
"""The policy that is given a perfect view: what no router can have."""


class Router:
    """Knows its own view, which is up to a heartbeat old, and where prompts' prefixes are, as the directory would."""

    def __init__(
        self,
        loop: EventLoop,
        fleet: Fleet,
        ways: Mapping[Ends, Way],
        params: PolicyParams,
        policy: str,
        *,
        admission: bool,
    ) -> None:
        self._loop, self._fleet, self._ways = loop, fleet, ways
        self._params, self._policy, self._admission = params, policy, admission
        self._holders = Holders()
        self._counted = CountedView()
        self._tickets: dict[int, Ticket] = {}
        """By the number of the arrival."""
        self.heartbeat()

    @property
    def view(self) -> ClusterView:
        """What it knows now."""
        return self._counted.view

    @property
    def outstanding(self) -> int:
        """Requests that it placed and that have not ended."""
        return self._counted.outstanding

    def heartbeat(self) -> None:
        """Every instance and every sender says how it stands."""
        now_s = self._loop.now_s
        for way in self._ways.values():
            way.gauge.observe(now_s)
        links = [way.gauge.view(now_s) for way in self._ways.values()]
        self._counted.heard_all(self._fleet.views(), links)

    def first_token(self, arrival: Arrival) -> None:
        """Its prompt waits nowhere any more."""
        self._counted.first_token(self._tickets[arrival.number])

    def ended(self, arrival: Arrival) -> None:
        """Its answer is complete."""
        self._counted.ended(self._tickets.pop(arrival.number))

    def retuned(self, threshold_tokens: int) -> None:
        if threshold_tokens != self._params.threshold_tokens:
            self._params = replace(self._params, threshold_tokens=threshold_tokens)

    def place(self, arrival: Arrival) -> Placement | Refusal:
        """Where it goes, or why it is not taken in."""
        view = self._perfect() if self._policy == ORACLE else self.view
        request = self._request(arrival, view)
        try:
            placement = place(request, view, self._params, self._policy)
        except UnavailableError:
            refusal = admit(request, None, view, self._params)
            assert refusal
            return refusal
        if self._admission and (refusal := admit(request, placement, view, self._params)):
            return refusal
        self._tickets[arrival.number] = self._counted.placed(placement)
        if arrival.blocks:
            both = (placement.prefill, placement.decode) if placement.prefill else (placement.decode,)
            self._holders.add(arrival, (instance.instance_id for instance in both))
        return placement

    def _request(self, arrival: Arrival, view: ClusterView) -> PlacementRequest:
        if not arrival.blocks:
            return PlacementRequest(arrival.prompt_tokens)
        cached = self._cached(arrival)
        return PlacementRequest(arrival.prompt_tokens, cached, longest=longest(cached, view))

    def _cached(self, arrival: Arrival) -> dict[InstanceId, int]:
        found = {}
        for name in self._holders.of(arrival):
            member = self._fleet[name]
            if not member.draining and (tokens := member.instance.cached_tokens(arrival)):
                found[name] = tokens
        return found

    def _perfect(self) -> ClusterView:
        now_s = self._loop.now_s
        return ClusterView.of(self._fleet.truths(), [way.gauge.truth(now_s) for way in self._ways.values()])

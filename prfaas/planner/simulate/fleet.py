"""The simulated instances: who is there, in which role, and what heartbeats say. Knows no jobs and no policies."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from prfaas.core.ids import InstanceId
from prfaas.planner.simulate.instance import Load, SimulatedInstance
from prfaas.planner.simulate.seat import Seat
from prfaas.policy.profile import Profile
from prfaas.policy.view import InstanceView, Role

Make = Callable[[Seat, Profile], SimulatedInstance]


class Member:
    """One instance, in the role that it has at present."""

    __slots__ = ("_told", "coming_requests", "coming_tokens", "draining", "instance", "jobs", "seat")

    def __init__(self, seat: Seat, instance: SimulatedInstance) -> None:
        self.seat, self.instance = seat, instance
        self.jobs = 0
        """That were placed here and still need it."""
        self.coming_requests = self.coming_tokens = 0
        """To be prefilled here once their decode instances have reserved pages."""
        self.draining = False
        """It gets no new ones."""
        self._told: tuple[Load, InstanceView] | None = None
        """The last view, and what it was made of."""

    def view(self) -> InstanceView:
        """As its next heartbeat would describe it; the same one while nothing changes."""
        seat, instance, told = self.seat, self.instance, self._told
        load = instance.load()
        if told and told[0] == load:
            return told[1]
        view = InstanceView(
            instance_id=seat.instance_id,
            cluster=seat.cluster,
            kind=seat.kind,
            role=seat.role,
            waiting_tokens=load.waiting_tokens,
            waiting_requests=load.waiting_requests,
            running_requests=load.running_requests,
            pages_free=load.pages_free,
            max_running=instance.max_running,
            profile=instance.profile,
        )
        self._told = load, view
        return view

    def truth(self) -> InstanceView:
        """With what is to come, which no heartbeat knows of."""
        return self.view().plus(self.coming_requests, self.coming_tokens)


class Fleet:
    """Instances by name."""

    def __init__(self, seats: Iterable[tuple[Seat, Profile]], make: Make) -> None:
        self._make = make
        self._members = {seat.instance_id: Member(seat, make(seat, profile)) for seat, profile in seats}

    def __getitem__(self, instance_id: InstanceId) -> Member:
        return self._members[instance_id]

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def views(self) -> list[InstanceView]:
        """Of those that may get new jobs, as they are now."""
        return [member.view() for member in self._members.values() if not member.draining]

    def truths(self) -> list[InstanceView]:
        """The same, with what is to come."""
        return [member.truth() for member in self._members.values() if not member.draining]

    def count(self, role: Role) -> int:
        """Members of pd clusters in a role, those that leave it excluded."""
        return sum(m.seat.kind == "pd" and m.seat.role == role and not m.draining for m in self)

    def drain(self, role: Role) -> Member | None:
        """Takes the member of a pd cluster with the fewest jobs out; None where a cluster would be left without it.

        A cluster keeps at least one decode instance.
        """
        candidates = [m for m in self if m.seat.kind == "pd" and m.seat.role == role and not m.draining]
        if role == "decode":
            candidates = [m for m in candidates if sum(m.seat.cluster == c.seat.cluster for c in candidates) > 1]
        if not candidates:
            return None
        chosen = min(candidates, key=lambda m: (m.jobs, m.seat.instance_id))
        chosen.draining = True
        return chosen

    def convert(self, member: Member) -> None:
        """Puts an instance in the other role into the place of one that has no jobs left; its cache is empty."""
        assert member.draining
        assert not member.jobs
        role: Role = "decode" if member.seat.role == "prefill" else "prefill"
        seat = replace(member.seat, role=role)
        self._members[seat.instance_id] = Member(seat, self._make(seat, member.instance.profile))

    def waiting(self) -> dict[str, int]:
        """Requests not yet begun, by cluster and role."""
        found: dict[str, int] = {}
        for member in self:
            name = f"{member.seat.cluster} {member.seat.role}"
            found[name] = found.get(name, 0) + member.instance.load().waiting_requests
        return found

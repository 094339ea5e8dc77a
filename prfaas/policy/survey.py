"""One walk over the fleet for one request: who may decode, who may prefill, who holds a prefix. Compares no times."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.expect import Times, slot_s
from prfaas.policy.leads import Leads, Near, Target
from prfaas.policy.view import ClusterView, InstanceView, PlacementRequest, PolicyParams

Holder = tuple[int, InstanceId, InstanceView]
"""Minus the tokens of the prompt that it has cached, its name, itself: the least has most."""


class Survey(NamedTuple):
    """What comes into question for a request."""

    request: PlacementRequest
    view: ClusterView
    params: PolicyParams
    times: Times
    near: Mapping[ClusterName, Near]
    """Of clusters that can decode, but for crowded ones."""
    targets: Sequence[Target]
    """The decode instances of `near`, those with room first."""
    far: Sequence[InstanceView]
    """The least loaded prefill instance of each `prfaas` cluster."""
    near_holders: list[Holder]
    """Prefill instances with a prefix, in clusters of `near`."""
    decode_holders: list[Holder]
    """Decode instances with a prefix, but for crowded ones."""
    far_holders: list[Holder]
    """Prefill instances with a prefix, in `prfaas` clusters."""

    def held(self, instance: InstanceView) -> int:
        """Tokens of the prompt that it need not compute; never more than the prompt, whatever a directory says."""
        tokens = self.request.cached_tokens.get(instance.instance_id, 0)
        return min(self.request.prompt_tokens, tokens)

    def longest_near(self) -> Holder | None:
        """Who has most of the prompt cached in clusters that decode."""
        return min((*self.near_holders, *self.decode_holders), default=None)

    def longest_far(self) -> Holder | None:
        """Who has most of the prompt cached in `prfaas` clusters."""
        return min(self.far_holders, default=None)


def survey(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Survey:
    """Raises UnavailableError when nothing can decode."""
    leads = Leads.of(view.parts.values(), request.exclude) if request.exclude else view.leads
    near, targets = leads.near, leads.targets
    if not near:
        raise UnavailableError("no decode instance is up and accepting requests; start one or wait for it")
    if leads.full:
        near = {name: (decode, slot_s(decode, params), prefill) for name, (decode, _, prefill) in near.items()}
        those = near.values()
        targets = tuple(sorted((room_s, decode.requests, decode.instance_id, decode) for decode, room_s, _ in those))
    found = Survey(request, view, params, Times(request.prompt_tokens), near, targets, leads.far, [], [], [])
    if request.cached_tokens:
        _sort_holders(found, leads.crowd_limit)
    return found


def _sort_holders(found: Survey, limit: int) -> None:
    request, parts, homes, near = found.request, found.view.parts, found.view.homes, found.near
    exclude, least = request.exclude, -request.prompt_tokens
    near_holders, decode_holders, far_holders = found.near_holders, found.decode_holders, found.far_holders
    matches = request.cached_tokens.items() if request.longest is None else request.longest
    for name, held in matches:
        home = homes.get(name)
        if home is None or (exclude and name in exclude):
            continue
        part = parts[home]
        instance = part.members[name]
        missing = -held
        if missing < least:
            missing = least
        if instance.role == "decode":
            if instance.requests <= limit:
                decode_holders.append((missing, name, instance))
        elif part.kind == "prfaas":
            far_holders.append((missing, name, instance))
        elif home in near:
            near_holders.append((missing, name, instance))


def promising(
    found: Survey, holders: list[Holder], below_s: float, slowdown: float
) -> list[tuple[float, InstanceId, InstanceView]]:
    """Those that may be done within `below_s`, each taking `slowdown` times T_prefill.

    Sorted by what the end of their prefill is not before.
    """
    those, profile, whole_s, saved_s = [], None, 0.0, 0.0
    for missing, name, worker in holders:
        if worker.profile is not profile:
            profile = worker.profile
            whole_s, saved_s = found.times.line(profile)
        least_s = (worker.queue_s + whole_s + missing * saved_s) * slowdown
        if least_s <= below_s:
            those.append((least_s, name, worker))
    those.sort()
    return those

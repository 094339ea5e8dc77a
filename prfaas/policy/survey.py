"""One walk over the fleet for one request: who may decode, who may prefill, who holds a prefix. Compares no times."""

from dataclasses import dataclass

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.candidates import crowd_limit_of, first
from prfaas.policy.expect import Times, slot_s
from prfaas.policy.view import ClusterView, InstanceView, PlacementRequest, PolicyParams

Holder = tuple[int, InstanceId, InstanceView]
"""Minus the tokens of the prompt that it has cached, its name, itself: the least has most."""


Near = tuple[InstanceView, float, InstanceView | None]
"""Of a cluster that can decode: its least loaded decode instance, the seconds until that has room for one more, and its
least loaded prefill instance."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What comes into question for a request."""

    request: PlacementRequest
    view: ClusterView
    params: PolicyParams
    times: Times
    near: dict[ClusterName, Near]
    far: list[InstanceView]
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
    leads, far = _leads(request, view, params)
    if not leads:
        raise UnavailableError("no decode instance is up and accepting requests; start one or wait for it")
    limit = crowd_limit_of(min([lead[0].requests for _, lead in leads]))
    near = {name: lead for name, lead in leads if lead[0].requests <= limit}
    found = Survey(request, view, params, Times(request.prompt_tokens), near, far, [], [], [])
    if request.cached_tokens:
        _sort_holders(found, limit)
    return found


def _leads(
    request: PlacementRequest, view: ClusterView, params: PolicyParams
) -> tuple[list[tuple[ClusterName, Near]], list[InstanceView]]:
    """The least loaded of each cluster that can decode, and of each `prfaas` cluster."""
    leads: list[tuple[ClusterName, Near]] = []
    far, exclude = [], request.exclude
    for part in view.parts.values():
        prefills = part.prefills
        prefill = first(prefills, exclude) if exclude else prefills[0] if prefills else None
        if prefill is not None and part.kind == "prfaas":
            far.append(prefill)
        if part.decodes and (decode := first(part.decodes, exclude)) is not None:
            room_s = slot_s(decode, params) if decode.requests >= decode.max_running else 0.0
            leads.append((part.name, (decode, room_s, prefill)))
    return leads, far


def _sort_holders(found: Survey, limit: int) -> None:
    request, parts, homes, near = found.request, found.view.parts, found.view.homes, found.near
    exclude, tokens = request.exclude, request.prompt_tokens
    near_holders, decode_holders, far_holders = found.near_holders, found.decode_holders, found.far_holders
    matches = request.cached_tokens.items() if request.longest is None else request.longest
    for name, held in matches:
        home = homes.get(name)
        if home is None or name in exclude:
            continue
        instance = parts[home].members[name]
        holder = (-held if held < tokens else -tokens, name, instance)
        if instance.role == "decode":
            if instance.requests <= limit:
                decode_holders.append(holder)
        elif instance.kind == "prfaas":
            far_holders.append(holder)
        elif home in near:
            near_holders.append(holder)


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

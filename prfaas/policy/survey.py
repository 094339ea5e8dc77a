"""One walk over the fleet for one request: who may decode, who may prefill, who holds a prefix. Compares no times."""

from dataclasses import dataclass

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName
from prfaas.policy.candidates import crowd_limit_of, first
from prfaas.policy.expect import Times, slot_s
from prfaas.policy.view import ClusterView, InstanceView, PlacementRequest, PolicyParams


@dataclass(frozen=True, slots=True)
class Near:
    """A cluster that can decode, by its least loaded instances."""

    decode: InstanceView
    room_s: float
    """Until the decode instance has room for one more."""
    prefill: InstanceView | None


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
    near_holders: list[InstanceView]
    """Prefill instances with a prefix, in clusters of `near`."""
    decode_holders: list[InstanceView]
    """Decode instances with a prefix, but for crowded ones."""
    far_holders: list[InstanceView]
    """Prefill instances with a prefix, in `prfaas` clusters."""

    def held(self, instance: InstanceView) -> int:
        """Tokens of the prompt that it need not compute."""
        tokens = self.request.cached_tokens.get(instance.instance_id, 0)
        return min(self.request.prompt_tokens, tokens)

    def room_s(self, decode: InstanceView) -> float:
        """Until a decode instance has room for one more."""
        return slot_s(decode, self.params)


def survey(request: PlacementRequest, view: ClusterView, params: PolicyParams) -> Survey:
    """Raises UnavailableError when nothing can decode."""
    leads, far = _leads(request, view)
    if not leads:
        raise UnavailableError("no decode instance is up and accepting requests; start one or wait for it")
    limit = crowd_limit_of(min(decode.requests for _, decode, _ in leads))
    near = {
        name: Near(decode, slot_s(decode, params), prefill)
        for name, decode, prefill in leads
        if decode.requests <= limit
    }
    found = Survey(request, view, params, Times(request.prompt_tokens), near, far, [], [], [])
    _sort_holders(found, limit)
    return found


def _leads(
    request: PlacementRequest, view: ClusterView
) -> tuple[list[tuple[ClusterName, InstanceView, InstanceView | None]], list[InstanceView]]:
    leads, far = [], []
    for part in view.parts.values():
        prefill = first(part.prefills, request)
        if prefill is not None and part.kind == "prfaas":
            far.append(prefill)
        if part.decodes and (decode := first(part.decodes, request)) is not None:
            leads.append((part.name, decode, prefill))
    return leads, far


def _sort_holders(found: Survey, limit: int) -> None:
    request, parts, homes, near = found.request, found.view.parts, found.view.homes, found.near
    exclude = request.exclude
    names = [i for few in request.longest.values() for i in few] if request.longest else request.cached_tokens
    for name in names:
        home = homes.get(name)
        if home is None or name in exclude:
            continue
        instance = parts[home].members[name]
        if instance.role == "decode":
            if instance.requests <= limit:
                found.decode_holders.append(instance)
        elif instance.kind == "prfaas":
            found.far_holders.append(instance)
        elif home in near:
            found.near_holders.append(instance)

"""Who comes into question for a request: of a thousand instances, the least loaded and those that hold a prefix.

Knows how many tokens wait, and nothing of seconds or links.
"""

from collections.abc import Iterable, Iterator, Mapping

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName
from prfaas.policy.leads import crowd_limit_of, first
from prfaas.policy.part import ClusterPart
from prfaas.policy.view import ClusterView, InstanceView, PlacementRequest

Holders = Mapping[ClusterName, list[InstanceView]]
"""By cluster, instances that may be used and hold a prefix of the prompt."""


def holders(request: PlacementRequest, view: ClusterView) -> Holders:
    """Those in `request.longest`, or else all that are up."""
    found: dict[ClusterName, list[InstanceView]] = {}
    parts, homes, exclude = view.parts, view.homes, request.exclude
    matches = request.cached_tokens.items() if request.longest is None else request.longest
    for name, _ in matches:
        home = homes.get(name)
        if home is None or name in exclude:
            continue
        instance = parts[home].members[name]
        if home in found:
            found[home].append(instance)
        else:
            found[home] = [instance]
    return found


def held(request: PlacementRequest, instance: InstanceView) -> int:
    """Tokens of the prompt that it need not compute. A directory may lag behind, or err; never more than the prompt."""
    return min(request.cached_tokens.get(instance.instance_id, 0), request.prompt_tokens)


def workers(request: PlacementRequest, part: ClusterPart, found: Holders) -> Iterator[InstanceView]:
    """Prefill instances of a cluster: the least loaded one, then those with a prefix."""
    if (least := first(part.prefills, request.exclude)) is not None:
        yield least
        for instance in found.get(part.name, ()):
            if instance.role == "prefill" and instance is not least:
                yield instance


def quickest(request: PlacementRequest, instances: Iterable[InstanceView]) -> InstanceView | None:
    """By tokens; the name decides between equals, so that equal views give equal placements."""
    return min(
        instances,
        key=lambda i: (i.waiting_tokens - held(request, i), i.requests, i.instance_id),
        default=None,
    )


def crowd_limit(request: PlacementRequest, view: ClusterView) -> int:
    """Requests above which a decode instance is passed over: a prefix that everybody shares must not draw everybody to
    the one instance that has it. Raises UnavailableError when nothing can decode.
    """
    least = [i.requests for part in view.parts.values() if (i := first(part.decodes, request.exclude)) is not None]
    if not least:
        raise UnavailableError("no decode instance is up and accepting requests; start one or wait for it")
    return crowd_limit_of(min(least))


def decodes(request: PlacementRequest, part: ClusterPart, found: Holders, limit: int) -> list[InstanceView]:
    """Decode instances of a cluster: of those without a prefix one where the fewest tokens wait, and all with one."""
    those = [i for i in found.get(part.name, ()) if i.role == "decode" and i.requests <= limit]
    names = {i.instance_id for i in those}
    rest: InstanceView | None = None
    for instance in part.decodes:
        if instance.requests > limit:
            break
        if instance.instance_id in request.exclude or instance.instance_id in names:
            continue
        if rest is None or instance.waiting_tokens < rest.waiting_tokens:
            rest = instance
        if rest.waiting_tokens == 0:
            break
    return those if rest is None else [rest, *those]

"""A live fleet as the throughput model takes it: all clusters of a kind as one. Decides nothing."""

from dataclasses import dataclass, replace

from prfaas.policy.deployment import Deployment
from prfaas.policy.instance_view import ClusterKind
from prfaas.policy.pool import pooled
from prfaas.policy.profile import Profile
from prfaas.policy.view import ClusterView, InstanceView


@dataclass(frozen=True, slots=True)
class Seats:
    """What of a fleet can serve, and in which role."""

    deployment: Deployment
    n_p: int
    """pd instances that prefill."""
    n_d: int


def deployment_of(view: ClusterView, *, egress_bytes_s: float, output_tokens: float, hit_rate: float) -> Seats | str:
    """Of the instances in `view`; or why the throughput model has nothing to say about them.

    Raises ConfigError for clusters whose profiles are of several models.
    """
    remote, home = _members(view, "prfaas"), _members(view, "pd")
    decodes = [instance for instance in home if instance.role == "decode"]
    if not decodes:
        return "no decode instance is up"
    if unknown := sorted({str(i.cluster) for i in (*remote, *home) if i.profile is None}):
        return f"nobody knows yet what a prompt takes in {', '.join(unknown)}"
    deployment = Deployment(
        prfaas=_pool(remote) if remote else None,
        pd=_with_slots(_pool(home), decodes),
        n_prfaas=len(remote),
        n_pd=len(home),
        egress_bytes_s=egress_bytes_s,
        output_tokens=max(1.0, output_tokens),
        hit_rate=hit_rate,
    )
    return Seats(deployment, len(home) - len(decodes), len(decodes))


def _members(view: ClusterView, kind: ClusterKind) -> list[InstanceView]:
    return [i for part in view.parts.values() if part.kind == kind for i in part.members.values()]


def _pool(members: list[InstanceView]) -> Profile:
    counts: dict[int, tuple[Profile, int]] = {}
    for instance in members:
        assert instance.profile
        profile, count = counts.get(id(instance.profile), (instance.profile, 0))
        counts[id(profile)] = profile, count + 1
    return pooled(list(counts.values()))


def _with_slots(profile: Profile, decodes: list[InstanceView]) -> Profile:
    """No batch is larger than what engines run at once."""
    slots = [instance.max_running for instance in decodes if instance.max_running]
    most = min(profile.decode.max_batch, round(sum(slots) / len(slots))) if slots else profile.decode.max_batch
    return replace(profile, decode=replace(profile.decode, max_batch=most))

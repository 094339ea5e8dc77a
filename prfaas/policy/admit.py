"""Whether a request is taken in at all, once it is known where it would go. Pure; sends no refusals itself."""

from dataclasses import dataclass
from typing import Literal

from prfaas.policy.view import ClusterView, Placement, PlacementRequest, PolicyParams

MIN_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Router → client: not now."""

    kind: Literal["contended", "none"]
    """contended: too much is under way; none: nothing can decode."""
    retry_after_s: float
    """When it is worth another try."""
    reason: str


def admit(
    request: PlacementRequest, placement: Placement | None, view: ClusterView, params: PolicyParams
) -> Refusal | None:
    """None: it may come in. `placement` is None where `place` found no instance that can decode.

    Refused is what would be too late to be of use: its first token expected later than `slo_patience` times
    `slo_ttft_s`, or more than `max_queued_requests` waiting for a decode slot.
    """
    if placement is None:
        excluded = f" outside the {len(request.exclude)} that are ruled out" if request.exclude else ""
        return Refusal("none", MIN_RETRY_S, f"no decode instance{excluded} is up and accepting requests")
    expected_s = placement.expected.ttft_s if placement.expected else 0.0
    if (waiting := view.beyond_slots) > params.max_queued_requests:
        reason = (
            f"{waiting} requests wait for a decode slot, more than max_queued_requests {params.max_queued_requests}"
        )
        return Refusal("contended", max(MIN_RETRY_S, expected_s), reason)
    due_s = params.slo_ttft_s
    if due_s is None or expected_s <= due_s * params.slo_patience:
        return None
    reason = f"the first token is expected after {expected_s:.1f} s; {due_s:g} s are promised"
    return Refusal("contended", max(MIN_RETRY_S, expected_s - due_s), reason)


def admit_batch(view: ClusterView, share: float) -> Refusal | None:
    """None: a request of class batch may be looked at by `admit`.

    Refused while `share` of the fleet's decode slots are taken. Instances whose slots are not known are left out.
    """
    known = [d for part in view.parts.values() for d in part.decodes if d.max_running]
    slots, taken = sum(d.max_running for d in known), sum(min(d.requests, d.max_running) for d in known)
    if taken < share * slots or not known:
        return None
    reason = f"{taken} of {slots} decode slots are taken; batch requests come in below {share:.0%}"
    return Refusal("contended", MIN_RETRY_S, reason)

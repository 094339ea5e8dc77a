"""The plans that a request has, with what each is expected to take. Prefers none but the quicker."""

from typing import NamedTuple

from prfaas.policy.expect import Crossing, move, scarce, usable
from prfaas.policy.survey import Survey
from prfaas.policy.view import CacheTransfer, Expected, InstanceView, LinkView

INF = float("inf")


class Plan(NamedTuple):
    """Where a request might go. The least is best: by time, then by company on the decode instance, then by name."""

    ttft_s: float
    requests: int
    lacking: int
    """Tokens that the decode instance has not cached."""
    decode_name: str
    worker_name: str
    decode: InstanceView
    worker: InstanceView
    cached: int
    """Tokens of the prompt that the worker need not compute."""
    start_s: float
    prefill_s: float
    crossing: Crossing | None = None
    moved: CacheTransfer | None = None
    moving: Crossing | None = None

    @property
    def usd(self) -> float:
        return (self.crossing.usd if self.crossing else 0.0) + (self.moving.usd if self.moving else 0.0)

    @property
    def expected(self) -> Expected | None:
        """None where KV is to cross a link of which nothing is known."""
        if self.ttft_s == INF:
            return None
        crossing, moving = self.crossing, self.moving
        num_bytes = (crossing.num_bytes if crossing else 0.0) + (moving.num_bytes if moving else 0.0)
        after_s = max(0.0, self.ttft_s - self.start_s - self.prefill_s)
        return Expected(self.ttft_s, self.start_s, self.prefill_s, after_s, num_bytes, self.usd)


def link_of(found: Survey, plan: Plan) -> LinkView | None:
    """That a plan's KV crosses, where it is known."""
    return found.view.links.get((plan.worker.cluster, plan.decode.cluster))


def with_moved_cache(found: Survey, plan: Plan) -> Plan:
    """The plan, after the longest prefix of the other side has been moved to where it prefills if that is quicker."""
    holder = found.longest_near() if plan.worker.kind == "prfaas" else found.longest_far()
    profile, params = plan.worker.profile, found.params
    if holder is None or profile is None:
        return plan
    missing, _, source = holder
    tokens = -missing
    link = found.view.links.get((source.cluster, plan.worker.cluster))
    if tokens <= plan.cached or link is None or not usable(link, params) or scarce(link, params):
        return plan
    moving = move(link, profile, tokens - plan.cached)
    start_s = max(plan.start_s, moving.done_s)
    prefill_s = found.times.prefill_s(profile, tokens)
    if plan.worker is plan.decode:
        prefill_s *= params.decode_prefill
    # Less prefill later: what comes after it is taken to follow it as before, which for KV that crosses meanwhile is
    # the least that can be.
    after_s = plan.ttft_s - plan.start_s - plan.prefill_s
    ttft_s = start_s + prefill_s + after_s
    if ttft_s >= plan.ttft_s:
        return plan
    return plan._replace(
        ttft_s=ttft_s,
        cached=tokens,
        start_s=start_s,
        prefill_s=prefill_s,
        moved=CacheTransfer(source, tokens, moving.num_bytes),
        moving=moving,
    )

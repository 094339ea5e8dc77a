"""What one planned step takes on a profile. Knows no clock."""

from prfaas.policy.profile import Profile
from prfaas.scheduler.plan import Chunk, StepPlan


def step_s(profile: Profile, plan: StepPlan) -> float:
    """A decode step of the whole batch, and behind it the chunks; each prompt pays its overhead with its first."""
    seconds = 0.0
    if plan.decodes:
        seconds += profile.decode.step_s(len(plan.decodes), sum(chunk.end for chunk in plan.decodes))
    for chunk in plan.prefills:
        seconds += profile.prefill.work(chunk.start, chunk.end)
        if begins(chunk):
            seconds += profile.prefill.overhead
    return seconds


def begins(chunk: Chunk) -> bool:
    """Whether a prompt's prefill begins here, or begins anew after its memory was lost."""
    return chunk.start == chunk.sequence.cached_tokens + chunk.sequence.verified_tokens


def remaining_s(profile: Profile, first: Chunk, others: list[Chunk]) -> float:
    """Until a prompt is prefilled that begins now, if nothing else comes: those beside it have equal shares."""
    own_s = _rest_s(profile, first)
    return own_s + sum(min(own_s, _rest_s(profile, chunk)) for chunk in others)


def _rest_s(profile: Profile, chunk: Chunk) -> float:
    overhead_s = profile.prefill.overhead if begins(chunk) else 0.0
    return overhead_s + profile.prefill.work(chunk.start, chunk.sequence.num_tokens)

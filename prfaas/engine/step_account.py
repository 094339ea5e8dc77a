"""What a step that was computed did, as the front is told. Knows no clock."""

from prfaas.engine.messages import Stepped
from prfaas.scheduler.plan import Chunk, StepPlan


def stepped(plan: StepPlan, seconds: float, forward_seconds: float, late_s: float | None) -> Stepped:
    """`forward_seconds`: of these, inside the decoder. `late_s`: of an emulated step, behind its profile."""
    return Stepped(
        seconds,
        forward_seconds,
        len(plan.decodes),
        plan.num_prefill_tokens,
        context_tokens=sum(chunk.end for chunk in plan.decodes),
        prompts_begun=sum(map(_begins, plan.prefills)),
        prompts_done=sum(chunk.completes_prompt for chunk in plan.prefills),
        squared_tokens=sum(chunk.end**2 - chunk.start**2 for chunk in plan.prefills),
        late_s=late_s,
    )


def _begins(chunk: Chunk) -> bool:
    """Also of a prompt that begins anew because its memory was lost."""
    return chunk.start == chunk.sequence.cached_tokens + chunk.sequence.verified_tokens

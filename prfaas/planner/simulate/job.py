"""One request's passage through the simulated fleet: what it waits for, and when each part of it was over."""

from dataclasses import dataclass, field

from prfaas.planner.simulate.arrival import Arrival
from prfaas.policy.view import Placement

NEVER = -1.0


@dataclass(slots=True, eq=False)
class Job:
    """Mutable; times are simulated seconds, NEVER until they are known."""

    arrival: Arrival
    placement: Placement | None = None
    placed_s: float = NEVER
    reserved_s: float = NEVER
    """The decode instance has pages for it."""
    prefill_started_s: float = NEVER
    """Its first chunk was begun; of the last attempt."""
    prefilled_s: float = NEVER
    arrived_s: float = NEVER
    """All KV is where it is decoded; equal to prefilled_s where nothing had to cross."""
    first_token_s: float = NEVER
    finished_s: float = NEVER
    computed_tokens: int = 0
    """Of the prompt, all attempts together."""
    cached_tokens: int = 0
    """Of the prompt, that its last prefill found cached."""
    held_tokens: int = 0
    """That the decode instance held when it reserved pages, so that they need not cross."""
    link_bytes: float = 0.0
    """That crossed between clusters for it, what was sent in vain included."""
    usd: float = 0.0
    """For those bytes."""
    fallback: str | None = None
    """Why its prompt was prefilled on the decode instance although it had been placed elsewhere."""
    attempt: int = 0
    """Rises whenever what is under way for it is given up; late callbacks of earlier attempts are ignored."""
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def prompt_tokens(self) -> int:
        return self.arrival.prompt_tokens

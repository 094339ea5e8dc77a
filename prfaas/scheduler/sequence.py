"""One request on one instance: its phase, the memory it holds, the tokens it has."""

from dataclasses import dataclass, field
from enum import Enum, auto

from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request


class Mode(Enum):
    """What this instance does for the request."""

    SERVE = auto()
    """Prefill and decode."""
    IMPORT = auto()
    """Decode; the prompt's KV comes from elsewhere."""
    EXPORT = auto()
    """Prefill; the KV goes elsewhere."""


class Phase(Enum):
    """WAITING → (RESERVED →) PREFILL → DECODE, or PREFILL → HELD for an export."""

    WAITING = auto()
    """Holds nothing yet."""
    RESERVED = auto()
    """Holds pages that another instance fills."""
    PREFILL = auto()
    DECODE = auto()
    HELD = auto()
    """Prefilled; pages stay until the receiver has them."""


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable state of a request; only the scheduler changes it."""

    request: Request
    mode: Mode
    phase: Phase = Phase.WAITING
    pages: tuple[int, ...] = ()
    slot: int = -1
    computed_tokens: int = 0
    """Tokens whose KV and state are in this instance's cache."""
    output_token_ids: list[int] = field(default_factory=list)

    @property
    def request_id(self) -> RequestId:
        return self.request.request_id

    @property
    def remaining_prompt_tokens(self) -> int:
        return max(0, self.request.prompt_tokens - self.computed_tokens)

    @property
    def cached_limit_tokens(self) -> int:
        """Tokens that this instance must be able to cache for the request."""
        return self.request.prompt_tokens if self.mode is Mode.EXPORT else self.request.max_total_tokens

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        """Token ids [start, end) of prompt and output together."""
        prompt = self.request.prompt_token_ids
        if end <= len(prompt):
            return prompt[start:end]
        return (*prompt[start:], *self.output_token_ids[max(0, start - len(prompt)) : end - len(prompt)])

    def finish_reason(self, eos_token_ids: frozenset[int]) -> FinishReason | None:
        """Why generation ends with the last output token, if it does."""
        last = self.output_token_ids[-1]
        sampling = self.request.sampling
        if last in sampling.stop_token_ids or (last in eos_token_ids and not sampling.ignore_eos):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(self.output_token_ids) >= sampling.max_tokens else None

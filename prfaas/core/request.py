"""A request as every instance sees it: token ids in, sampling rules, token ids out."""

from dataclasses import dataclass, field
from enum import StrEnum

from prfaas.core.errors import RequestError
from prfaas.core.ids import RequestId

MAX_SEED = 2**63 - 1


class FinishReason(StrEnum):
    """Why a request ended, in OpenAI's words where they exist."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are drawn. `temperature` 0 is greedy; `seed` fixes the draw of every position of the request."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0.0 <= self.temperature <= 2.0:
            raise RequestError(f"temperature is {self.temperature}; it must be between 0 and 2")
        if not 0.0 < self.top_p <= 1.0:
            raise RequestError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"seed is {self.seed}; it must be between 0 and 2**63 - 1")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to continue it."""

    request_id: RequestId
    prompt_token_ids: tuple[int, ...] = field(repr=False)
    sampling: SamplingParams

    def __post_init__(self) -> None:
        if not self.prompt_token_ids:
            raise RequestError("the prompt has no tokens; send at least one")

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def max_total_tokens(self) -> int:
        """Tokens whose KV can exist at once: the last token sampled is never fed back."""
        return self.prompt_tokens + self.sampling.max_tokens - 1

"""Who this instance is; every part of it may know."""

from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.config.sections import TransportSection
from prfaas.core.errors import RequestError
from prfaas.core.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Identity:
    """Fixed for the life of the process."""

    instance_id: str
    cluster: str
    epoch: int
    data_address: str
    model_fingerprint: str
    shape: ModelShape
    vocab_size: int
    max_context_tokens: int
    transport: TransportSection

    def check_tokens(self, token_ids: Sequence[int]) -> None:
        """Raises RequestError for an id that the model has no embedding of; it would fail the whole batch."""
        if (largest := max(token_ids)) >= self.vocab_size:
            raise RequestError(f"token id {largest} is not in the model's vocabulary of {self.vocab_size}")

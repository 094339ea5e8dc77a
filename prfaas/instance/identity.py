"""Who this instance is; every part of it may know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prfaas.config.sections import CodecName, TransportSection
from prfaas.core.errors import RequestError
from prfaas.core.shape import DType, ModelShape


@dataclass(frozen=True, slots=True)
class Identity:
    """Fixed for the life of the process."""

    instance_id: str
    cluster: str
    epoch: int
    data_address: str
    model_fingerprint: str
    shape: ModelShape
    kv_dtype: DType
    """Of the cache here."""
    sent_shapes: Mapping[DType, ModelShape]
    """The same model's cache at senders of each dtype."""
    codecs: frozenset[CodecName]
    """What is decoded here and allowed by the configuration; raw always."""
    vocab_size: int
    max_context_tokens: int
    transport: TransportSection

    def check_tokens(self, token_ids: Sequence[int]) -> None:
        """Raises RequestError for an id that the model has no embedding of; it would fail the whole batch."""
        if (largest := max(token_ids)) >= self.vocab_size:
            raise RequestError(f"token id {largest} is not in the model's vocabulary of {self.vocab_size}")

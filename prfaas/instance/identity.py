"""Who this instance is; every part of it may know."""

from dataclasses import dataclass

from prfaas.config.sections import TransportSection
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
    max_context_tokens: int
    transport: TransportSection

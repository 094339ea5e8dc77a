"""What a step drew, as a value. Does not know how tokens are drawn."""

from dataclasses import dataclass, field

from prfaas.core.errors import PrfaasError
from prfaas.core.ids import RequestId
from prfaas.core.logprobs import TokenLogprobs


@dataclass(slots=True)
class Drawn:
    """What one step drew: every sequence has a token, or is one of those that cannot go on."""

    tokens: dict[RequestId, int] = field(default_factory=dict)
    logprobs: dict[RequestId, TokenLogprobs] = field(default_factory=dict)
    """For requests that ask."""
    not_finite: set[RequestId] = field(default_factory=set)
    """The model's logits are of no use."""
    faults: dict[RequestId, PrfaasError] = field(default_factory=dict)
    """The request's own rules cannot be followed."""

"""The policy's knobs in force: as the fleet file sets them, but for those that the loops follow. Decides nothing."""

from dataclasses import replace

from prfaas.config.sections import FleetConfig
from prfaas.policy.knobs import knobs
from prfaas.policy.view import PolicyParams


def policy_params(config: FleetConfig) -> PolicyParams:
    """To begin with."""
    return knobs(config.policy, config.router.threshold_tokens, config.transport.codecs)


class LiveParams:
    """What every placement reads, and the short loop writes."""

    def __init__(self, params: PolicyParams) -> None:
        self.now = params

    def retuned(self, *, threshold_tokens: int | None = None, output_tokens: float | None = None) -> None:
        """None: as it is."""
        self.now = replace(
            self.now,
            threshold_tokens=self.now.threshold_tokens if threshold_tokens is None else threshold_tokens,
            output_tokens=self.now.output_tokens if output_tokens is None else max(1, round(output_tokens)),
        )

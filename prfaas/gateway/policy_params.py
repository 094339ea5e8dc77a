"""The policy's knobs as the fleet file sets them."""

from prfaas.config.sections import FleetConfig
from prfaas.policy.view import PolicyParams


def policy_params(config: FleetConfig) -> PolicyParams:
    return PolicyParams(
        threshold_tokens=config.router.threshold_tokens,
        margin=config.policy.margin,
        margin_s=config.policy.margin_s,
        usd_per_ttft_s=config.policy.usd_per_ttft_s,
        slo_ttft_s=config.policy.slo_ttft_s,
        slo_patience=config.policy.slo_patience,
        max_queued_requests=config.policy.max_queued_requests,
        codecs=frozenset({"raw", *config.transport.codecs}),
    )

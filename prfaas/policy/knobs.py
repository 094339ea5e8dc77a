"""The policy's knobs as a file's section sets them: router and simulator read it here, so that neither ignores one."""

from collections.abc import Iterable

from prfaas.config.sections import CodecName, PolicySection
from prfaas.policy.view import PolicyParams


def knobs(section: PolicySection, threshold_tokens: int, codecs: Iterable[CodecName] = ()) -> PolicyParams:
    """`codecs`: what KV may be encoded as, besides raw."""
    return PolicyParams(
        threshold_tokens=threshold_tokens,
        margin=section.margin,
        margin_s=section.margin_s,
        usd_per_ttft_s=section.usd_per_ttft_s,
        cache_transfers=section.cache_transfers,
        codecs=frozenset({"raw", *codecs}),
        slo_ttft_s=section.slo_ttft_s,
        in_time_s=section.slo_ttft_s,
        slo_patience=section.slo_patience,
        max_queued_requests=section.max_queued_requests,
    )

"""Links as the fleet file describes them, for the policy to go by until somebody has measured them."""

from collections.abc import Mapping
from math import inf

from prfaas.config.sections import FleetConfig
from prfaas.core.ids import ClusterName
from prfaas.policy.view import LinkView


def described_links(config: FleetConfig) -> Mapping[tuple[ClusterName, ClusterName], LinkView]:
    """Both directions of each."""
    views = {}
    for link in config.links:
        one, other = (ClusterName(name) for name in link.between)
        for source, target in ((one, other), (other, one)):
            views[source, target] = LinkView(
                source=source,
                target=target,
                bytes_per_s=link.gbit_s * 1e9 / 8,
                rtt_s=link.rtt_ms / 1000,
                min_rtt_s=link.rtt_ms / 1000,
                retransmitted=0.0,
                queued_bytes=0,
                queued_s=0.0,
                age_s=inf,
                usd_per_gb=link.usd_per_gb,
            )
    return views

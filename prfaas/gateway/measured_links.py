"""Puts what instances measured of the same link together. Knows no clock and no table of instances."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.view import LinkView

SAME_TIME_S = 10.0
"""Measurements that lie no farther apart are of the same link in the same state."""


@dataclass(frozen=True, slots=True)
class InstanceLink:
    """One instance's report on its way to a cluster, `heard_s` seconds after it came."""

    instance_id: InstanceId
    source: ClusterName
    report: pb.LinkReport
    heard_s: float

    @property
    def age_s(self) -> float:
        """Seconds since bytes crossed."""
        return self.report.age_s + self.heard_s


def link_views(
    links: Sequence[InstanceLink], described: Mapping[tuple[ClusterName, ClusterName], LinkView] | None = None
) -> tuple[LinkView, ...]:
    """One view of each link whose rate anybody knows, in the order in which they first appear.

    `described` tells what nobody can measure: what bytes cost. It also holds for the rate, as long as there never was
    enough to send to tell whether the link carries that much.
    """
    described = described or {}
    groups: defaultdict[tuple[ClusterName, ClusterName], list[InstanceLink]] = defaultdict(list)
    for link in links:
        if link.report.bytes_per_s > 0:
            groups[link.source, ClusterName(link.report.cluster)].append(link)
    return tuple(_view(*ends, group, described.get(ends)) for ends, group in groups.items())


def _view(
    source: ClusterName, target: ClusterName, links: Sequence[InstanceLink], described: LinkView | None
) -> LinkView:
    latest = min(links, key=lambda link: link.age_s)
    reports = [link.report for link in links]
    rate, together = _rate(_believed(links))
    if described and all(report.at_least for report in reports):
        rate = max(rate, described.bytes_per_s)
    return LinkView(
        source=source,
        target=target,
        bytes_per_s=rate,
        rtt_s=latest.report.rtt_s,
        min_rtt_s=min((report.min_rtt_s for report in reports if report.min_rtt_s > 0), default=0.0),
        retransmitted=max(report.retransmitted for report in reports),
        queued_bytes=sum(report.queued_bytes for report in reports),
        queued_s=max(report.queued_s for report in reports),
        age_s=latest.age_s,
        utilisation=min(1.0, together / rate),
        usd_per_gb=described.usd_per_gb if described else 0.0,
    )


def _believed(links: Sequence[InstanceLink]) -> list[pb.LinkReport]:
    """Without those that are older than the latest one that was at the link's limit: it may have changed."""
    limited_s = min((link.age_s for link in links if not link.report.at_least), default=inf)
    return [link.report for link in links if link.age_s <= limited_s + SAME_TIME_S]


def _rate(reports: Sequence[pb.LinkReport]) -> tuple[float, float]:
    """Of the link, and in use. Each instance knows its own share. Those that are busy at the same time have the link
    together; one that was alone on it measured all of it."""
    alone = max(report.bytes_per_s for report in reports)
    together = sum(report.bytes_per_s * report.utilisation for report in reports)
    return max(alone, together), together

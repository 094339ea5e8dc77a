"""Links whose payload rates are round numbers."""

from prfaas.config.deployment import LinkChangeSection, PlannedLinkSection
from prfaas.planner.simulate.capacity import BYTES_PER_GBIT, EFFICIENCY, Capacity
from prfaas.planner.simulate.links import SimulatedLink
from prfaas.planner.simulate.loop import EventLoop

Change = tuple[float, float | None]
"""(from when on, bytes/s of payload; None: an outage)."""


def gbit_s(bytes_s: float) -> float:
    return bytes_s / BYTES_PER_GBIT / EFFICIENCY


def section(
    bytes_s: float, *changes: Change, repeat_s: float | None = None, rtt_ms: float = 0.0, usd_per_gb: float = 0.0
) -> PlannedLinkSection:
    timeline = tuple(
        LinkChangeSection(at_s=at_s, up=False)
        if rate is None
        else LinkChangeSection(at_s=at_s, gbit_s=gbit_s(rate), up=True)
        for at_s, rate in changes
    )
    return PlannedLinkSection(
        between=("far", "near"),
        gbit_s=gbit_s(bytes_s),
        rtt_ms=rtt_ms,
        usd_per_gb=usd_per_gb,
        timeline=timeline,
        repeat_s=repeat_s,
    )


def link(loop: EventLoop, bytes_s: float, *changes: Change, rtt_ms: float = 0.0) -> SimulatedLink:
    return SimulatedLink(loop, "far", "near", Capacity(section(bytes_s, *changes, rtt_ms=rtt_ms)))

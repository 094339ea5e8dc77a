"""Samples what links carry, window by window. Knows no jobs."""

from collections.abc import Mapping

from prfaas.planner.simulate.fleet import Fleet
from prfaas.planner.simulate.histogram import Histogram
from prfaas.planner.simulate.outcome import Egress, LinkUse
from prfaas.planner.simulate.series import BUCKET_S, Buckets
from prfaas.planner.simulate.way import Ends, Way, outwards

GBIT = 8e-9
"""Of a byte."""


class Carried:
    """Windows are as long as a bucket is at first."""

    def __init__(self, ways: Mapping[Ends, Way], buckets: Buckets) -> None:
        self._ways, self._buckets = ways, buckets
        self._out_bytes = dict.fromkeys(ways, 0.0)
        self._at_s = 0.0
        self._windows = Histogram()

    def sample(self, now_s: float) -> None:
        """To be called at the end of every window, and of the run."""
        passed_s = now_s - self._at_s
        if passed_s <= 0:
            return
        bucket = self._buckets.at(self._at_s)
        crossed = 0.0
        for ends, way in self._ways.items():
            link = way.link
            link.advance()
            num_bytes = link.out_bytes - self._out_bytes[ends]
            self._out_bytes[ends] = link.out_bytes
            crossed += num_bytes
            name = f"{link.source}→{link.target}"
            bucket.link_bytes[name] = bucket.link_bytes.get(name, 0.0) + num_bytes
            could = link.capacity.carried(self._at_s, now_s)
            bucket.capacity_bytes[name] = bucket.capacity_bytes.get(name, 0.0) + could
        if passed_s >= BUCKET_S or not self._windows.count:
            self._windows.add(crossed * GBIT / passed_s)
        self._at_s = now_s

    def egress(self, end_s: float) -> Egress:
        crossed = sum(way.link.out_bytes for way in self._ways.values())
        p99 = self._windows.quantiles((0.99,))[0]
        return Egress(crossed * GBIT / end_s if end_s else 0.0, p99)

    def uses(self, end_s: float) -> tuple[LinkUse, ...]:
        return tuple(_use(way, end_s) for way in self._ways.values())

    def utilisation(self, fleet: Fleet, end_s: float) -> float:
        """Of the links out of `prfaas` clusters together."""
        links = [way.link for way in outwards(fleet, self._ways)]
        could = sum(link.capacity.carried(0.0, end_s) for link in links)
        return sum(link.out_bytes for link in links) / could if could else 0.0


def _use(way: Way, end_s: float) -> LinkUse:
    link = way.link
    could = link.capacity.carried(0.0, end_s)
    return LinkUse(
        source=link.source,
        target=link.target,
        gbit_s=link.out_bytes * GBIT / end_s if end_s else 0.0,
        utilisation=link.out_bytes / could if could else 0.0,
        in_bytes=link.in_bytes,
        out_bytes=link.out_bytes,
        cancelled_bytes=link.cancelled_bytes,
        usd=link.out_bytes / 1e9 * way.gauge.usd_per_gb,
    )

"""One direction between two clusters: the link, what is known of it, and whose KV is on it."""

from collections.abc import Mapping

from prfaas.config.deployment import DeploymentFile
from prfaas.core.ids import ClusterName
from prfaas.planner.simulate.capacity import BYTES_PER_GBIT, EFFICIENCY, Capacity
from prfaas.planner.simulate.fleet import Fleet
from prfaas.planner.simulate.gauge import LinkGauge
from prfaas.planner.simulate.job import Job
from prfaas.planner.simulate.links import SimulatedLink
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.shipment import Shipment

Ends = tuple[ClusterName, ClusterName]
"""Source and target."""


class Transit:
    """What a job has on a way, or is about to have."""

    __slots__ = ("closed", "job", "num_bytes", "shipment", "since_s", "way")

    def __init__(self, job: Job, way: "Way", since_s: float) -> None:
        self.job, self.way, self.since_s = job, way, since_s
        self.shipment: Shipment | None = None
        self.num_bytes = 0.0
        """In all, encoded."""
        self.closed = False
        """The prefill is over: nothing but the link is waited for."""


class Way:
    """Transits are in order of their beginning."""

    def __init__(self, link: SimulatedLink, gauge: LinkGauge) -> None:
        self.link, self.gauge = link, gauge
        self.transits: dict[Job, Transit] = {}


def outwards(fleet: Fleet, ways: Mapping[Ends, Way]) -> list[Way]:
    """Those from a `prfaas` cluster to one that decodes."""
    kinds = {member.seat.cluster: member.seat.kind for member in fleet}
    return [way for (source, target), way in ways.items() if (kinds[source], kinds[target]) == ("prfaas", "pd")]


def ways(deployment: DeploymentFile, loop: EventLoop) -> dict[Ends, Way]:
    """Both directions of every link of a deployment, each with the whole capacity for itself."""
    found = {}
    for section in deployment.links:
        a, b = (ClusterName(name) for name in section.between)
        configured = section.gbit_s * BYTES_PER_GBIT * EFFICIENCY * (1 - section.loss)
        for source, target in ((a, b), (b, a)):
            link = SimulatedLink(loop, source, target, Capacity(section))
            found[source, target] = Way(link, LinkGauge(link, configured, section.usd_per_gb))
    return found

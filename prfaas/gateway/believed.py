"""Which of an instance's reports are believed, and what is said of the others: once an instance and kind, with a count.

Knows neither what is made of a report, nor who is alive.
"""

import logging
from collections.abc import Mapping, Sequence

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import InstanceId
from prfaas.gateway.registration import RefusedError, check_load, link_fault
from prfaas.gateway.reported_rates import rates_fault
from prfaas.policy.view import ClusterKind
from prfaas.telemetry.metrics import RouterMetrics

log = logging.getLogger(__name__)


class Believed:
    """Of one router, for all instances."""

    def __init__(self, kinds: Mapping[str, ClusterKind], metrics: RouterMetrics) -> None:
        self._kinds, self._metrics = kinds, metrics
        self._complained: dict[str, set[str]] = {}
        """By instance, what was logged."""

    def check_load(self, instance_id: str, load: pb.Load) -> None:
        """Raises RefusedError for a load that cannot be: without a load nothing can be placed."""
        try:
            check_load(instance_id, load)
        except RefusedError as refused:
            self._metrics.loops.refused.labels("load").inc()
            self._complain(instance_id, "a heartbeat", refused.message)
            raise

    def links(self, instance_id: str, links: Sequence[pb.LinkReport]) -> list[pb.LinkReport]:
        """Those that can be; of several to one cluster the last."""
        usable = {}
        for link in links:
            if fault := link_fault(link, self._kinds):
                self._metrics.links.refused.inc()
                self._complain(instance_id, "a measurement of a link", fault)
            else:
                usable[link.cluster] = link
        return list(usable.values())

    def rates(self, instance_id: str, rates: pb.Rates | None) -> pb.Rates | None:
        """None for what cannot be."""
        if rates is None or not (fault := rates_fault(rates)):
            return rates
        self._metrics.loops.refused.labels("rates").inc()
        self._complain(instance_id, "what it measured of itself", fault)
        return None

    def outlier(self, instance_id: InstanceId) -> None:
        """Its rates can be, but nobody else's are like them."""
        self._metrics.loops.refused.labels("outlier").inc()
        self._complain(instance_id, "its own speed", "it is far from that of its peers, or its file's")

    def forget(self, instance_id: str) -> None:
        """It is gone; whoever comes under its name is complained of anew."""
        self._complained.pop(instance_id, None)

    def _complain(self, instance_id: str, what: str, fault: str) -> None:
        said = self._complained.setdefault(instance_id, set())
        if what not in said:
            said.add(what)
            log.warning("%s: %s is left out: %s", instance_id, what, fault)

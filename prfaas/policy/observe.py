"""What the loops over both timescales look at, out of a view of the fleet. Live router and simulator both come here.

Knows neither who made the view nor what is decided from it.
"""

from prfaas.policy.expect import usable
from prfaas.policy.instance_view import ClusterKind
from prfaas.policy.signals import Signals
from prfaas.policy.view import ClusterView, LinkView, PolicyParams


def signals_of(view: ClusterView, params: PolicyParams, *, at_s: float, rate_req_s: float) -> Signals:
    """Queues are means over the prefill instances of a kind. Links that `place` would not use deliver nothing."""
    links = outward(view)
    good = [link for link in links if usable(link, params)]
    whole = sum(link.bytes_per_s for link in good)
    used = sum(link.bytes_per_s * link.utilisation for link in good)
    return Signals(
        at_s=at_s,
        link_utilisation=used / whole if whole else 1.0,
        link_queue_s=max((link.queued_s for link in links), default=0.0),
        egress_bytes_s=whole,
        prfaas_queue_s=_queue_s(view, "prfaas"),
        pdp_queue_s=_queue_s(view, "pd"),
        rate_req_s=rate_req_s,
        link=", ".join(f"{link.source}→{link.target}" for link in links) or "no link",
    )


def outward(view: ClusterView) -> list[LinkView]:
    """The links from `prfaas` clusters to those that decode."""
    kinds = {name: part.kind for name, part in view.parts.items()}
    return [
        link
        for (source, target), link in view.links.items()
        if (kinds.get(source), kinds.get(target)) == ("prfaas", "pd")
    ]


def _queue_s(view: ClusterView, kind: ClusterKind) -> float:
    """0 where there are none."""
    queues = [i.queue_s for part in view.parts.values() if part.kind == kind for i in part.prefills]
    return sum(queues) / len(queues) if queues else 0.0

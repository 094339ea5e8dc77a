"""What must be true of every run that has ended, whatever happened in it. Changes nothing."""

from collections.abc import Iterator, Mapping

from prfaas.core.errors import PrfaasError
from prfaas.planner.simulate.fleet import Fleet
from prfaas.planner.simulate.journeys import Journeys
from prfaas.planner.simulate.router import Router
from prfaas.planner.simulate.tally import Tally
from prfaas.planner.simulate.way import Ends, Way

ROUNDING = 1e-9
"""Share of a link's bytes that sums of floating point numbers may be off."""


def check(tally: Tally, router: Router, journeys: Journeys, fleet: Fleet, ways: Mapping[Ends, Way]) -> None:
    """Raises PrfaasError that lists every figure that does not add up: the simulation itself is wrong, then."""
    faults = [*_requests(tally, router, journeys), *_instances(fleet), *_links(ways)]
    if faults:
        raise PrfaasError(f"the simulation contradicts itself; please report this: {'; '.join(faults)}")


def _requests(tally: Tally, router: Router, journeys: Journeys) -> Iterator[str]:
    if tally.finished + tally.refused != tally.arrived:
        yield f"{tally.arrived} requests arrived, {tally.finished} finished and {tally.refused} were refused"
    if journeys.open_jobs or journeys.in_transit:
        yield f"{journeys.open_jobs} requests never ended, {journeys.in_transit} of them on a link"
    if router.outstanding:
        yield f"the router still counts {router.outstanding} requests"


def _instances(fleet: Fleet) -> Iterator[str]:
    for member in fleet:
        load, name = member.instance.load(), member.seat.instance_id
        if member.jobs or member.coming_requests or member.coming_tokens:
            yield f"{name} still has {member.jobs} requests"
        if load.waiting_tokens or load.waiting_requests or load.running_requests:
            yield f"{name} still says {load}"


def _links(ways: Mapping[Ends, Way]) -> Iterator[str]:
    for (source, target), way in ways.items():
        link = way.link
        link.advance()
        rounding = max(1.0, ROUNDING * link.in_bytes)
        left = link.in_bytes - link.out_bytes - link.cancelled_bytes
        if abs(left) > rounding or link.queued_bytes > rounding:
            yield (
                f"{source}→{target}: {link.in_bytes:.0f} bytes in, {link.out_bytes:.0f} out, "
                f"{link.cancelled_bytes:.0f} cancelled, {link.queued_bytes:.0f} queued"
            )

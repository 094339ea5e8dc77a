"""What a view knows of its least loaded instances: however the view came about, the same."""

import random

from prfaas.core.ids import InstanceId
from prfaas.policy.leads import CROWD_REQUESTS, Leads
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, InstanceView, PlacementRequest
from tests.policy.fleets import PARAMS, SEATS, fleet, seat


def _loaded(rng: random.Random, name: str) -> InstanceView:
    waiting = rng.choice((0, 0, 1))
    load = {"waiting_tokens": 4000 * waiting, "waiting_requests": waiting, "running_requests": rng.randrange(24)}
    return seat(name, SEATS[name], **load)


def test_changes_keep_the_leads_of_a_view_as_a_new_view_has_them() -> None:
    rng = random.Random(3)
    view = fleet(*(_loaded(rng, name) for name in SEATS))
    for _ in range(300):
        name = rng.choice(list(SEATS))
        change = rng.random()
        if change < 0.6 or not view.leads.near:
            view = view.updated(_loaded(rng, name))
        elif change < 0.8:
            view = view.after(place(PlacementRequest(rng.randrange(1, 50_000)), view, PARAMS, "prfaas"))
        else:
            view = view.without(InstanceId(name))
        new = ClusterView.of(view.instances, view.links.values())
        assert (view.leads.near, view.leads.targets) == (new.leads.near, new.leads.targets)
        assert sorted(i.instance_id for i in view.leads.far) == sorted(i.instance_id for i in new.leads.far)
        assert (view.leads.full, view.leads.profiled) == (new.leads.full, new.leads.profiled)


def test_an_excluded_instance_leads_nothing() -> None:
    view = fleet(seat("d0", "west"), seat("d1", "west", running_requests=1), seat("x0", "east"))
    leads = Leads.of(view.parts.values(), frozenset({InstanceId("d0"), InstanceId("x0")}))
    assert [name for _, _, name, _ in leads.targets] == ["d1"]
    assert leads.far == ()


def test_a_crowded_cluster_is_passed_over() -> None:
    view = fleet(seat("d0", "west"), seat("d1", "south", running_requests=CROWD_REQUESTS + 1))
    assert list(view.leads.near) == ["west"]

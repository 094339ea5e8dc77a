"""Signals out of a view, and the deployment that the throughput model is asked about."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.policy.allocate import AllocateParams, Allocation, allocate
from prfaas.policy.convertible import convertible
from prfaas.policy.fleet_deployment import Seats, deployment_of
from prfaas.policy.observe import signals_of
from prfaas.policy.recent import Recent
from prfaas.policy.retune import RetuneParams, Tuning, retune
from prfaas.policy.view import ClusterView
from tests.policy.fleets import H20, PARAMS, fleet, seat, views, way

HALF = way("east", "west", utilisation=0.5, queued_s=0.3)
OTHER = way("north", "south", bytes_per_s=1e9, utilisation=0.25, queued_s=0.1)
BACK = way("west", "east", utilisation=1.0, queued_s=9.0)
EVERYBODY = (seat("x0", "east"), seat("x2", "north"), seat("p0", "west"), seat("d0", "west"), seat("d2", "south"))


def seats(view: ClusterView) -> Seats:
    found = deployment_of(view, egress_bytes_s=1e9, output_tokens=100.0, hit_rate=0.2)
    assert not isinstance(found, str)
    return found


def test_all_links_to_where_it_is_decoded_are_one() -> None:
    signals = signals_of(fleet(*EVERYBODY, links=(HALF, OTHER, BACK)), PARAMS, at_s=5.0, rate_req_s=2.0)
    assert (signals.at_s, signals.rate_req_s, signals.egress_bytes_s) == (5.0, 2.0, 13.5e9)
    assert signals.link_utilisation == pytest.approx((0.5 * 12.5 + 0.25 * 1) / 13.5)
    assert (signals.link_queue_s, signals.link) == (0.3, "east→west, north→south")


@pytest.mark.parametrize("state", [{"up": False}, {"bytes_per_s": 0.0}, {"age_s": 31.0, "queued_bytes": 1}])
def test_what_place_would_not_use_delivers_nothing(state: dict[str, float]) -> None:
    signals = signals_of(
        fleet(*EVERYBODY, links=(way("east", "west", queued_s=4.0, **state),)), PARAMS, at_s=0.0, rate_req_s=0.0
    )
    assert (signals.egress_bytes_s, signals.link_utilisation, signals.link_queue_s) == (0.0, 1.0, 4.0)


def test_queues_are_means_over_those_that_prefill() -> None:
    waiting = replace(EVERYBODY[0], waiting_tokens=32_768, waiting_requests=1)
    decode = replace(EVERYBODY[3], waiting_tokens=100_000, waiting_requests=3)
    signals = signals_of(fleet(waiting, *EVERYBODY[1:3], decode), PARAMS, at_s=0.0, rate_req_s=0.0)
    assert signals.prfaas_queue_s == pytest.approx(waiting.queue_s / 2)
    assert signals.pdp_queue_s == 0


def test_a_fleet_as_the_model_takes_it() -> None:
    found = seats(fleet(*EVERYBODY))
    assert (found.n_p, found.n_d) == (1, 2)
    at = found.deployment
    assert (at.n_prfaas, at.n_pd, at.egress_bytes_s, at.output_tokens, at.hit_rate) == (2, 3, 1e9, 100.0, 0.2)
    assert at.prfaas is EVERYBODY[0].profile
    assert at.pd == H20


def test_no_batch_is_larger_than_what_an_engine_runs() -> None:
    small = replace(EVERYBODY[3], max_running=4)
    assert seats(fleet(EVERYBODY[2], small)).deployment.pd.decode.max_batch == 4
    unlimited = replace(EVERYBODY[3], max_running=0)
    assert seats(fleet(EVERYBODY[2], unlimited)).deployment.pd.decode.max_batch == H20.decode.max_batch


def test_where_the_model_has_nothing_to_say() -> None:
    def why(*instances: str) -> object:
        view = fleet(*(i for i in EVERYBODY if i.instance_id in instances))
        return deployment_of(view, egress_bytes_s=1.0, output_tokens=1.0, hit_rate=0.0)

    assert why("p0", "x0") == "no decode instance is up"
    unknown = replace(EVERYBODY[0], profile=None)
    found = deployment_of(fleet(unknown, *EVERYBODY[2:]), egress_bytes_s=1.0, output_tokens=1.0, hit_rate=0.0)
    assert found == "nobody knows yet what a prompt takes in east"
    other_model = replace(EVERYBODY[2], profile=replace(H20, kv_bytes_per_token=1.0))
    with pytest.raises(ConfigError, match="one model"):
        deployment_of(fleet(other_model, EVERYBODY[3]), egress_bytes_s=1.0, output_tokens=1.0, hit_rate=0.0)


def test_the_least_loaded_changes_and_no_cluster_is_left_without_decode() -> None:
    busy = seat("d0", "west", running_requests=3)
    view = fleet(
        busy, seat("d1", "west", running_requests=2), seat("d2", "south"), seat("p0", "west"), seat("x0", "east")
    )
    chosen = convertible(view, "decode")
    assert chosen
    assert chosen.instance_id == "d1", "d2 is idle, and the only one of its cluster"
    prefill = convertible(view, "prefill")
    assert prefill
    assert prefill.instance_id == "p0", "prfaas clusters keep their roles"
    assert convertible(fleet(seat("d2", "south"), seat("x0", "east")), "decode") is None
    assert convertible(fleet(seat("d2", "south"), seat("x0", "east")), "prefill") is None


@settings(max_examples=60, deadline=None)
@given(view=views(profiled=True), lengths=st.lists(st.integers(1, 131_072), max_size=30), hits=st.floats(0, 0.99))
def test_whatever_the_view_the_loops_come_to_an_end(view: ClusterView, lengths: list[int], hits: float) -> None:
    signals = signals_of(view, PARAMS, at_s=1000.0, rate_req_s=3.0)
    assert signals.egress_bytes_s >= 0
    assert 0 <= signals.link_utilisation <= 1
    found = deployment_of(view, egress_bytes_s=signals.egress_bytes_s, output_tokens=64.0, hit_rate=hits)
    if isinstance(found, str):
        return
    recent = Recent(100, lengths)
    tuning = retune(Tuning.start(1000), signals, found.deployment, recent, RetuneParams(), n_p=found.n_p)
    assert tuning.threshold_tokens >= 0
    conversion = allocate(
        Allocation(found.n_p, found.n_d, 0.0), signals, found.deployment, recent, AllocateParams(cooldown_s=0.0)
    )
    if conversion and (instance := convertible(view, conversion.role_from)):
        assert instance.role == conversion.role_from
        assert instance.kind == "pd"

"""Journeys that no policy would choose just so: placements are scripted, instances and links are the real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.outcome import Fidelity, Outcome
from prfaas.planner.simulate.run import simulate
from prfaas.policy import place
from prfaas.policy.view import CacheTransfer, ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams
from tests.planner.simulate.deployments import STATE_BYTES, TOKEN_BYTES, Given, deployment
from tests.planner.simulate.links import Change, section

BOTH: list[Fidelity] = ["fluid", "step"]
BLOCKS = tuple(range(100, 108))
CACHED_TOKENS = len(BLOCKS) * 512
NUM_BYTES = CACHED_TOKENS * TOKEN_BYTES + STATE_BYTES
Script = Callable[[PlacementRequest, ClusterView], Placement]


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs requests where a script for each, in order, puts them; one instance of each kind and role."""

    def run(arrivals: list[Arrival], scripts: list[Script], *changes: Change, fidelity: Fidelity) -> Outcome:
        left = iter(scripts)

        def follow(request: PlacementRequest, view: ClusterView, _: PolicyParams) -> Placement:
            return next(left)(request, view)

        monkeypatch.setitem(place.POLICIES, "scripted", follow)
        file = deployment(tmp_path, section(100_000.0, *changes), local=2)
        return simulate(file, Given(arrivals), "scripted", requests=len(arrivals), seed=0, fidelity=fidelity)

    return run


def at(view: ClusterView, name: str) -> InstanceView:
    return next(i for i in view.instances if i.instance_id == name)


def beside(request: PlacementRequest, view: ClusterView) -> Placement:
    return Placement(at(view, "near-1"), at(view, "near-0"), request.prompt_tokens, "scripted")


def on_decode(request: PlacementRequest, view: ClusterView) -> Placement:
    return Placement(at(view, "near-1"), None, request.prompt_tokens, "scripted")


def with_cache(request: PlacementRequest, view: ClusterView) -> Placement:
    """Remote, and the prefix that the local prefill instance has goes ahead."""
    source = at(view, "near-0")
    return Placement(
        at(view, "near-1"),
        at(view, "far-0"),
        request.prompt_tokens - CACHED_TOKENS,
        "scripted",
        CacheTransfer(source, CACHED_TOKENS, NUM_BYTES),
    )


@pytest.mark.parametrize("fidelity", BOTH)
def test_beside_decode_nothing_crosses_and_nothing_is_waited_for(
    scripted: Callable[..., Outcome], fidelity: Fidelity
) -> None:
    outcome = scripted([Arrival(0, 0.0, 3000, 5)], [beside], fidelity=fidelity)
    assert outcome.prefill_s.mean == pytest.approx(3.0)
    assert outcome.transfer_s.mean == 0
    assert all(link.in_bytes == 0 for link in outcome.links)


@pytest.mark.parametrize("fidelity", BOTH)
def test_the_decode_instance_may_prefill(scripted: Callable[..., Outcome], fidelity: Fidelity) -> None:
    outcome = scripted([Arrival(0, 0.0, 3000, 5)], [on_decode], fidelity=fidelity)
    assert outcome.prefill_s.mean == pytest.approx(3.0)
    assert (outcome.offloaded_fraction, outcome.queue_s.mean, outcome.transfer_s.mean) == (0, 0, 0)


def shared() -> list[Arrival]:
    """The second goes on where the first ended."""
    return [Arrival(0, 0.0, CACHED_TOKENS + 1, 2, BLOCKS), Arrival(1, 10.0, CACHED_TOKENS + 500, 2, BLOCKS)]


@pytest.mark.parametrize("fidelity", BOTH)
def test_a_cached_prefix_goes_ahead(scripted: Callable[..., Outcome], fidelity: Fidelity) -> None:
    outcome = scripted(shared(), [beside, with_cache], fidelity=fidelity)
    there = {link.name: link.out_bytes for link in outcome.links}
    assert outcome.cache_transfers == 1
    assert there["near→far"] == pytest.approx(NUM_BYTES)
    # The decode instance holds the first prompt's KV: what comes back is of the 500 tokens behind it, and the states.
    assert there["far→near"] == pytest.approx(500 * TOKEN_BYTES + STATE_BYTES)
    # Whatever was in the far cache came over the link.
    assert outcome.cached_fraction == pytest.approx(CACHED_TOKENS / (2 * CACHED_TOKENS + 501))


@pytest.mark.parametrize("fidelity", BOTH)
def test_a_prefix_that_does_not_get_through_is_computed(scripted: Callable[..., Outcome], fidelity: Fidelity) -> None:
    outcome = scripted(shared(), [beside, with_cache], (10.1, None), (24.0, 100_000.0), fidelity=fidelity)
    # Given up at 21 s, when it is looked at; soon after the end of the prefill the link is there again.
    assert outcome.fallbacks == {}
    assert outcome.cached_fraction == 0
    cancelled = {link.name: link.cancelled_bytes for link in outcome.links}
    assert cancelled["near→far"] == pytest.approx(NUM_BYTES - 0.1 * 100_000, rel=0.01)


@pytest.mark.parametrize("fidelity", BOTH)
def test_what_falls_back_frees_the_prefill_instance_for_others(
    scripted: Callable[..., Outcome], fidelity: Fidelity
) -> None:
    def remote(request: PlacementRequest, view: ClusterView) -> Placement:
        return Placement(at(view, "near-1"), at(view, "far-0"), request.prompt_tokens, "scripted")

    # 80,000 tokens would take 40 s there; the second prompt has the instance for itself.
    arrivals = [Arrival(0, 0.0, 80_000, 2), Arrival(1, 30.0, 2_000, 2)]
    outcome = scripted(arrivals, [remote, remote], (1.0, None), (15.0, 100_000.0), fidelity=fidelity)
    assert outcome.fallbacks == {"stalled": 1}
    assert outcome.prefill_s.p50 == pytest.approx(1.0, rel=0.01)
    assert outcome.finished == 2

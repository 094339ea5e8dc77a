"""Whole runs: every request ends once, bytes balance, times add up; the same seed gives the same outcome."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given as given_examples
from hypothesis import settings
from hypothesis import strategies as st

from prfaas.config.sections import LoopsSection
from prfaas.core.errors import ConfigError
from prfaas.planner.simulate import series
from prfaas.planner.simulate.outcome import Fidelity, Outcome
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.workloads.build import build_workload
from prfaas.policy.place import POLICIES
from tests.planner.simulate.deployments import STATE_BYTES, TOKEN_BYTES, deployment, given, lognormal
from tests.planner.simulate.links import section

CHANGES = st.lists(st.tuples(st.floats(1, 50), st.one_of(st.none(), st.floats(5_000, 200_000))), max_size=4)


def run(
    folder: Path, policy: str, *, requests: int = 100, rate: float = 2.0, seed: int = 1, fidelity: Fidelity = "fluid"
) -> Outcome:
    file = deployment(folder, workload=lognormal())
    workload = build_workload(file.workload, rate_req_s=rate, seed=seed)
    return simulate(file, workload, policy, requests=requests, seed=seed, fidelity=fidelity)


def balanced(outcome: Outcome) -> None:
    assert outcome.lost == 0
    assert outcome.requests == outcome.finished + outcome.refused
    for link in outcome.links:
        assert link.in_bytes == pytest.approx(link.out_bytes + link.cancelled_bytes, abs=1)
    parts = (outcome.queue_s, outcome.prefill_s, outcome.transfer_s, outcome.first_token_s)
    assert sum(part.mean for part in parts) == pytest.approx(outcome.ttft_s.mean, abs=1e-5)
    arrived = sum(outcome.series.arrivals_req_s) * outcome.series.bucket_s
    assert arrived == pytest.approx(outcome.requests)
    crossed = sum(sum(rates) for rates in outcome.series.gbit_s.values()) * outcome.series.bucket_s
    assert crossed == pytest.approx(sum(link.out_bytes for link in outcome.links) * 8e-9)


@pytest.mark.parametrize("fidelity", ["fluid", "step"])
def test_one_request_beside_decode_by_hand(tmp_path: Path, fidelity: Fidelity) -> None:
    file = deployment(tmp_path, remote=0)
    outcome = simulate(file, given((5.0, 500, 11)), "static_threshold", requests=1, seed=0, fidelity=fidelity)
    # 500 tokens at 1,000/s; then 10 steps of 10 ms.
    assert outcome.prefill_s.mean == pytest.approx(0.5)
    assert outcome.queue_s.mean == outcome.transfer_s.mean == 0
    assert outcome.tpot_ms.mean == pytest.approx(10)
    assert outcome.duration_s == pytest.approx(0.5 + outcome.first_token_s.mean + 0.1)
    assert outcome.goodput_req_s == pytest.approx(1 / outcome.duration_s)
    assert outcome.usd_per_mtok == pytest.approx(3 * 2 / 3600 * outcome.duration_s / 11e-6)


@pytest.mark.parametrize("fidelity", ["fluid", "step"])
def test_one_request_that_is_offloaded_by_hand(tmp_path: Path, fidelity: Fidelity) -> None:
    link = section(100_000.0, rtt_ms=20, usd_per_gb=3.0)
    outcome = simulate(
        deployment(tmp_path, link), given((0.0, 4000, 11)), "all_remote", requests=1, seed=0, fidelity=fidelity
    )
    # 4,000 tokens at 2,000/s make 20 kB/s of KV, less than the link; the states take 10 ms more, and a round trip.
    assert outcome.prefill_s.mean == pytest.approx(2.0)
    assert outcome.transfer_s.mean == pytest.approx(0.01 + 0.02)
    assert outcome.offloaded_fraction == 1
    num_bytes = 4000 * TOKEN_BYTES + STATE_BYTES
    assert outcome.egress_gbit_s.mean * outcome.series.time_s[-1] <= num_bytes * 8e-9
    assert outcome.usd_links == pytest.approx(num_bytes / 1e9 * 3.0)
    balanced(outcome)


@pytest.mark.parametrize("fidelity", ["fluid", "step"])
def test_an_outage_makes_the_decode_instance_prefill(tmp_path: Path, fidelity: Fidelity) -> None:
    link = section(100_000.0, (1.0, None), (60.0, 100_000.0))
    outcome = simulate(
        deployment(tmp_path, link), given((0.0, 4000, 11)), "all_remote", requests=1, seed=0, fidelity=fidelity
    )
    # Silence from 1 s on; given up at 11 s, then 4 s at 1,000 tokens/s.
    assert outcome.fallbacks == {"stalled": 1}
    assert outcome.queue_s.mean == pytest.approx(11, abs=0.1)
    assert outcome.prefill_s.mean == pytest.approx(4, abs=0.01)
    assert outcome.transfer_s.mean == 0
    balanced(outcome)


def test_a_transfer_that_becomes_too_slow_is_given_up(tmp_path: Path) -> None:
    link = section(100_000.0, (1.0, 1_000.0))
    outcome = simulate(deployment(tmp_path, link), given((0.0, 4000, 11)), "all_remote", requests=1, seed=0)
    # At the end of the prefill, at 2 s, 21 kB are missing: 20 s at 1 kB/s, where 10 s are allowed.
    assert outcome.fallbacks == {"too_slow": 1}
    assert outcome.queue_s.mean == pytest.approx(2, abs=0.1)
    balanced(outcome)


def test_a_short_outage_is_sat_out(tmp_path: Path) -> None:
    link = section(100_000.0, (1.0, None), (9.0, 100_000.0))
    outcome = simulate(deployment(tmp_path, link), given((0.0, 4000, 11)), "all_remote", requests=1, seed=0)
    assert not outcome.fallbacks
    # From 9 s on, the 20 kB of the second second, and the states, which came at 2 s.
    assert outcome.transfer_s.mean == pytest.approx(7 + 0.21)


@pytest.mark.parametrize("policy", list(POLICIES))
@settings(max_examples=5)
@given_examples(CHANGES, st.integers(1, 3), st.integers(2, 5), st.integers(0, 99), st.floats(0.3, 6))
def test_every_request_ends_once_whatever_the_link_does(
    policy: str, changes: list[tuple[float, float | None]], remote: int, local: int, seed: int, rate: float
) -> None:
    ordered = sorted(changes, key=lambda change: change[0])
    link = section(30_000.0, *ordered, repeat_s=60.0 if ordered else None)
    with TemporaryDirectory() as folder:
        file = deployment(Path(folder), link, remote=remote, local=local, prefill=None, workload=lognormal())
        workload = build_workload(file.workload, rate_req_s=rate, seed=seed)
        outcome = simulate(file, workload, policy, requests=60, seed=seed)
    assert outcome.finished == 60
    balanced(outcome)


@pytest.mark.parametrize("fidelity", ["fluid", "step"])
def test_the_same_seed_gives_the_same_outcome(tmp_path: Path, fidelity: Fidelity) -> None:
    first, second, other = (run(tmp_path, "prfaas", requests=40, seed=seed, fidelity=fidelity) for seed in (3, 3, 4))
    assert first == second
    assert replace(other, seed=3) != first


def test_instances_that_change_their_roles_lose_nothing(tmp_path: Path) -> None:
    loops = LoopsSection(convert=True, allocate_s=20, convert_s=5)

    def overloaded(loops: LoopsSection) -> Outcome:
        file = deployment(tmp_path, remote=0, local=6, prefill=1, workload=lognormal(), loops=loops)
        # One instance prefills 1.1 requests a second.
        return simulate(file, build_workload(file.workload, rate_req_s=1.5, seed=2), "local_only", requests=600, seed=2)

    outcome, kept = overloaded(loops), overloaded(LoopsSection())
    assert {change.role_to for change in outcome.role_changes} == {"prefill"}
    for change in outcome.role_changes:
        assert change.ready_s >= change.at_s + 5
    balanced(outcome)
    assert not kept.role_changes
    assert outcome.ttft_s.mean < kept.ttft_s.mean / 2


def test_memory_does_not_grow_with_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_BUCKETS", 10)

    def peak_bytes(requests: int) -> int:
        tracemalloc.start()
        run(tmp_path, "prfaas", requests=requests, rate=1.5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(50)
    few, many = peak_bytes(200), peak_bytes(800)
    assert many < few * 1.2


def test_without_admission_all_are_taken_in_and_with_it_those_too_late_are_not(tmp_path: Path) -> None:
    file = deployment(tmp_path, workload=lognormal(), ttft_s=2.0)

    def overloaded(*, admission: bool) -> Outcome:
        workload = build_workload(file.workload, rate_req_s=20.0, seed=1)
        return simulate(file, workload, "prfaas", requests=400, seed=1, admission=admission)

    everything, chosen = overloaded(admission=False), overloaded(admission=True)
    assert everything.refused == 0
    assert chosen.refused > 0
    assert chosen.ttft_s.p90 < everything.ttft_s.p90
    balanced(chosen)


def test_progress_is_told_every_hundred_requests(tmp_path: Path) -> None:
    told: list[int] = []
    file = deployment(tmp_path, workload=lognormal())
    workload = build_workload(file.workload, rate_req_s=1.0, seed=1)
    simulate(file, workload, "local_only", requests=250, seed=1, on_progress=told.append)
    assert told == [100, 200]


def test_what_cannot_be_simulated(tmp_path: Path) -> None:
    file = deployment(tmp_path)
    with pytest.raises(ConfigError, match="no policy is called 'best'; take one of"):
        simulate(file, given((0.0, 1, 1)), "best", requests=1, seed=0)
    with pytest.raises(ConfigError, match="ask for 1 or more"):
        simulate(file, given((0.0, 1, 1)), "prfaas", requests=0, seed=0)
    with pytest.raises(ConfigError, match="has not one request"):
        simulate(file, given(), "prfaas", requests=1, seed=0)

"""Plans of small deployments: what pays, what cannot be done, and what is said about it."""

from pathlib import Path

import pytest

from prfaas.config.load_deployment import load_deployment
from prfaas.core.errors import ConfigError
from prfaas.planner.plan.plan import Plan, plan, plan_json

FAST = "overhead_s: 0.01, per_token_s: 0.0001"
SLOW = "overhead_s: 0.01, per_token_s: 0.001"


def _profile(prefill: str, usd: float = 1.0) -> str:
    return f"""
source: worked out by hand
model: {{name: m, kv_bytes_per_token: 1000}}
hardware: {{name: gpu, usd_per_gpu_hour: {usd}, cache_gib: 64}}
prefill: {{{prefill}}}
decode: {{points: [{{requests: 1, seconds: 0.02}}], max_batch: 32}}
"""


def _deployment(folder: Path, *overrides: str, fast_usd: float = 1.0, fast: str = FAST) -> Plan:
    (folder / "fast.yaml").write_text(_profile(fast, fast_usd))
    (folder / "slow.yaml").write_text(_profile(SLOW))
    (folder / "deployment.yaml").write_text("""
name: small
workload:
  input: {distribution: lognormal, mu: 7, sigma: 1, min_tokens: 10, max_tokens: 20000}
  output_tokens: 100
clusters:
  - {name: far, kind: prfaas, profile: fast.yaml, instances: 1}
  - {name: far-too, kind: prfaas, profile: fast.yaml, instances: 1}
  - {name: near, kind: pd, profile: slow.yaml, instances: 6}
links:
  - {between: [far, near], gbit_s: 10}
  - {between: [far-too, near], gbit_s: 1}
""")
    return plan(load_deployment(folder / "deployment.yaml", overrides))


def test_clusters_and_links_are_pooled(tmp_path: Path) -> None:
    found = _deployment(tmp_path)
    assert found.best.at.n_prfaas == 2
    assert found.best.fleet.egress_bytes_s * 8 / 1e9 == pytest.approx(11 * 0.94)
    assert found.homogeneous.fleet.n_pd == 8
    assert any("2 prfaas clusters are planned as one pool" in note for note in found.notes)
    assert found.verdict.pays


def test_a_fixed_split_is_kept(tmp_path: Path) -> None:
    free, fixed = _deployment(tmp_path), _deployment(tmp_path, "clusters.2.prefill=3")
    assert (fixed.best.at.n_p, fixed.best.at.n_d) == (3, 3)
    assert fixed.best.at.lambda_max <= free.best.at.lambda_max


def test_dear_instances_do_not_pay(tmp_path: Path) -> None:
    found = _deployment(tmp_path, fast_usd=100.0)
    assert not found.verdict.pays
    assert found.verdict.sentence.startswith("Offloading does not pay here: ")
    assert "for the same money" in found.verdict.sentence
    assert "Offloading would not pay even if egress were free of charge." in found.words


def test_slow_instances_far_away_do_not_pay(tmp_path: Path) -> None:
    found = _deployment(tmp_path, fast="overhead_s: 1000, per_token_s: 0.1")
    assert not found.verdict.pays
    assert "Offloading does not pay here" in found.verdict.sentence


def test_without_prices_there_are_no_costs(tmp_path: Path) -> None:
    found = _deployment(tmp_path, fast_usd=0.0)
    assert found.best.forecast.usd_per_mtok is None
    assert found.gain_at_equal_cost is None
    assert found.verdict.pays


def test_without_prfaas_clusters(tmp_path: Path) -> None:
    _deployment(tmp_path)
    text = (tmp_path / "deployment.yaml").read_text()
    alone = "\n".join(line for line in text.splitlines() if "far" not in line).replace("links:", "")
    (tmp_path / "alone.yaml").write_text(alone)
    found = plan(load_deployment(tmp_path / "alone.yaml"))
    assert found.naive is None
    assert found.verdict.sentence.startswith("There is no prfaas cluster to offload to")
    assert list(plan_json(found)["baselines"]) == ["homogeneous_pd"]
    assert found.best.at.lambda_max == pytest.approx(found.homogeneous.at.lambda_max)


def test_cached_prefixes_raise_what_can_be_done(tmp_path: Path) -> None:
    none, half = _deployment(tmp_path), _deployment(tmp_path, "workload.hit_rate=0.5")
    assert half.best.at.lambda_max > none.best.at.lambda_max
    assert half.best.fleet.lengths.mean == pytest.approx(none.best.fleet.lengths.mean / 2)
    planned = next(point for curve in half.sensitivity if curve.name == "hit_rate" for point in curve.points[2:3])
    assert planned.planned
    assert planned.lambda_max == half.best.at.lambda_max


def test_extrapolation_is_said(tmp_path: Path) -> None:
    measured = f"{FAST}, points: [{{tokens: 100, seconds: 0.1}}, {{tokens: 8000, seconds: 0.8}}]"
    found = _deployment(tmp_path, fast=measured)
    said = [note for note in found.notes if "extrapolated" in note]
    assert len(said) == 1
    assert said[0].startswith("Lengths above 8,000 tokens are extrapolated by the profile's formula (m on gpu)")


def test_a_rate_that_is_too_much(tmp_path: Path) -> None:
    found = _deployment(tmp_path, "workload.rate_req_s=1000")
    assert found.best.forecast.ttft_queued_mean_s is None
    assert any(note.startswith("This plan: at 1000.00 requests/s queues would grow for ever") for note in found.notes)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("slo.ttft_s=0.001", r"slo\.ttft_s: the shortest prompt, 10 uncached tokens, takes 0\.011 s .* allow more"),
        ("slo.tpot_ms=5", r"slo\.tpot_ms: a decode step of m on gpu takes 20 ms .* more than 5 ms; allow more"),
        ("links.0.gbit_s=0", r"links\.0\.gbit_s: Input should be greater than 0"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _deployment(tmp_path, override)


def test_nobody_prefills(tmp_path: Path) -> None:
    _deployment(tmp_path)
    text = (tmp_path / "deployment.yaml").read_text()
    (tmp_path / "alone.yaml").write_text("\n".join(line for line in text.splitlines() if "far" not in line) + " []\n")
    with pytest.raises(ConfigError, match=r"clusters: of 6 pd instances 0 prefill and 6 decode, .* nothing would be"):
        plan(load_deployment(tmp_path / "alone.yaml", ["clusters.0.prefill=0"]))


def test_clusters_of_two_models(tmp_path: Path) -> None:
    _deployment(tmp_path)
    slow = (tmp_path / "slow.yaml").read_text()
    (tmp_path / "other.yaml").write_text(slow.replace("kv_bytes_per_token: 1000", "kv_bytes_per_token: 2000"))
    with pytest.raises(ConfigError, match="all clusters must serve one model"):
        plan(load_deployment(tmp_path / "deployment.yaml", ["clusters.2.profile=other.yaml"]))


@pytest.mark.parametrize(
    "source",
    [
        "{distribution: fixed, tokens: 3000}",
        "{distribution: agentic, sessions: 2, turns: 3, first_tokens: 2000, added_tokens: 300, max_tokens: 30000}",
    ],
)
def test_other_workloads(tmp_path: Path, source: str) -> None:
    found = _deployment(tmp_path, f"workload.input={source}")
    assert found.best.at.lambda_max > 0
    assert {curve.name for curve in found.sensitivity} >= {"link_gbit_s", "length_factor", "hit_rate"}


def test_a_trace(tmp_path: Path) -> None:
    lines = [
        f'{{"timestamp": {100 * i}, "input_length": {513 + 64 * i}, "output_length": 50, "hash_ids": [{i}, {i + 9}]}}'
        for i in range(8)
    ]
    (tmp_path / "trace.jsonl").write_text("\n".join(lines) + "\n")
    found = _deployment(tmp_path, "workload.input={distribution: trace, path: trace.jsonl}")
    assert found.best.fleet.prompts.mean == pytest.approx(513 + 64 * 3.5)
    assert found.best.fleet.output_tokens == pytest.approx(50)
    assert any("set workload.hit_rate" in note for note in found.notes)

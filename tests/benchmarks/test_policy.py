"""The benchmark of placements and simulated requests runs, and its made-up conversations are what it says."""

import json
from pathlib import Path

import pytest

from benchmarks.conversations import write_conversations
from benchmarks.policy import main
from benchmarks.simulated_requests import simulated_requests
from prfaas.planner.simulate.workloads.mooncake import read_mooncake


def test_the_benchmark_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(calls=100, simulated=40, simulated_step=5, seed=1, json_output=True)
    figures = json.loads(capsys.readouterr().out)
    keys = ("place_us_p50", "place_us_p99", "simulated_req_s", "simulated_req_s_step")
    assert all(figures[key] > 0 for key in keys)
    assert [(run["fidelity"], run["requests"]) for run in figures["simulated"]] == [("fluid", 40), ("step", 5)]
    assert {run["workload"] for run in figures["simulated"]} == {"conversations made up for it"}


def test_a_trace_is_simulated_where_one_is_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    write_conversations(path, 20, seed=2)
    (run,) = simulated_requests(path, {"fluid": 20}, seed=0)
    assert (run["workload"], run["requests"], run["instances"]) == ("mine.jsonl", 20, 12)


def test_conversations_are_of_the_shape_that_they_claim(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    write_conversations(path, 3000, seed=0)
    records = list(read_mooncake(path))
    seen: set[int] = set()
    known = 0
    for record in records:
        known += sum(name in seen for name in record.hash_ids)
        seen.update(record.hash_ids)
    assert len(records) == 3000
    assert 10_000 < sum(r.input_length for r in records) / 3000 < 14_000
    assert 300 < sum(r.output_length for r in records) / 3000 < 400
    assert 0.3 < known / sum(len(r.hash_ids) for r in records) < 0.45
    assert 3.0 < 3000 / (records[-1].timestamp / 1000) < 3.8


def test_the_same_seed_makes_the_same_conversations(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_conversations(tmp_path / name, 50, seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()

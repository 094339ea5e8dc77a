"""`prfaas simulate` on small runs: tables, JSON, the page, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from prfaas.cli.main import app
from prfaas.config.load_deployment import load_deployment

CONFIGS = Path(__file__).parents[2] / "configs"
CASE_STUDY = CONFIGS / "case-study.yaml"


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, args)])


def figures(*args: object) -> dict[str, Any]:
    done = run(CASE_STUDY, "--requests", 40, "--rate", 1, "--json", *args)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def refused(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1, "one line"
    return done.stderr


def test_by_default_all_policies_that_a_router_can_follow_are_compared() -> None:
    told = figures()
    assert list(told["policies"]) == ["prfaas", "static_threshold", "local_only", "all_remote", "isl_or_load"]
    assert told["requests"] == 40
    assert told["wall_s"] > 0
    for outcome in told["policies"].values():
        assert outcome["finished"] == 40
        assert outcome["lost"] == 0
        assert outcome["ttft_s"].keys() == {"mean", "p50", "p90", "p99"}
    assert told["policies"]["all_remote"]["offloaded_fraction"] == 1
    assert told["policies"]["local_only"]["egress_gbit_s"] == {"mean": 0.0, "p99_10s": 0.0}


def test_the_same_seed_gives_the_same_figures() -> None:
    one, same, other = (figures("--policy", "prfaas", "--seed", seed)["policies"] for seed in (1, 1, 2))
    assert one == same
    assert one["prfaas"]["ttft_s"] != other["prfaas"]["ttft_s"]


def test_tables_begin_with_the_conclusion_and_the_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(CASE_STUDY, "--requests", 30, "--rate", 1, "--policy", "prfaas", "--policy", "oracle", "--html", page)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("prfaas answers ")
    assert "What clients see" in done.stdout
    assert "60 requests simulated in" in done.stdout
    assert "prfaas simulate: case-study" in page.read_text()


@pytest.mark.parametrize("kind", ["lognormal", "fixed", "agentic"])
def test_another_workload_takes_the_place_of_the_files(kind: str) -> None:
    rate = ["--rate", 1] if kind != "agentic" else []
    done = run(CASE_STUDY, "--requests", 20, "--policy", "prfaas", "--json", "--workload", kind, *rate)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["policies"]["prfaas"]["finished"] == 20


def test_a_trace_is_read_from_where_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"timestamp": 0, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(line | {"timestamp": 3000 * i}) + "\n" for i in range(5)))
    monkeypatch.chdir(tmp_path)
    done = run(CASE_STUDY, "--requests", 12, "--policy", "prfaas", "--json", "--trace", "trace.jsonl")
    assert done.exit_code == 0, done.output
    prfaas = json.loads(done.stdout)["policies"]["prfaas"]
    assert prfaas["finished"] == 12
    assert prfaas["cached_fraction"] > 0.5


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "none is called 'best'; choose among prfaas, static_threshold" in refused(CASE_STUDY, "--policy", "best")
    assert "does not exist" in refused(tmp_path / "none.yaml")
    assert "none.jsonl does not exist" in refused(CASE_STUDY, "--trace", tmp_path / "none.jsonl")
    assert "give one of them" in refused(CASE_STUDY, "--trace", "t", "--workload", "fixed")
    assert "use --set workload.input.sessions=" in refused(CASE_STUDY, "--workload", "agentic", "--rate", 2)
    assert "there is no such folder" in refused(CASE_STUDY, "--html", tmp_path / "none/page.html")
    assert "--html" in refused(CASE_STUDY, "--html", tmp_path, "--requests", 2, "--rate", 1, "--policy", "prfaas")
    assert "--set links.0.gbit_s" in refused(CASE_STUDY, "--set", "links.0.gbit_s=0")
    (tmp_path / "bad.jsonl").write_text('{"timestamp": 0}\n')
    assert "bad.jsonl:1:" in refused(CASE_STUDY, "--trace", tmp_path / "bad.jsonl")


@pytest.mark.parametrize("path", sorted((CONFIGS / "what-if").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_ifs_run(path: Path) -> None:
    assert load_deployment(path).name == path.stem
    done = run(path, "--requests", 20, "--policy", "prfaas", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["policies"]["prfaas"]["finished"] == 20


def test_a_deployment_may_lie_anywhere(tmp_path: Path) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    done = run(tmp_path / "configs/case-study.yaml", "--requests", 5, "--rate", 1, "--policy", "local_only")
    assert done.exit_code == 0, done.output

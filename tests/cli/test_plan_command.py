"""`prfaas plan` as it is called."""

import json
from pathlib import Path

from typer.testing import CliRunner

from prfaas.cli.main import app

CASE_STUDY = str(Path(__file__).parents[2] / "configs" / "case-study.yaml")


def test_tables() -> None:
    result = CliRunner().invoke(app, ["plan", CASE_STUDY], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Offloading pays: ")
    assert max(len(line) for line in result.output.splitlines()) <= 100
    for title in ("Compared", "Stages of this plan", "What if"):
        assert title in result.output


def test_one_json_object_and_a_page(tmp_path: Path) -> None:
    html = tmp_path / "plan.html"
    result = CliRunner().invoke(app, ["plan", CASE_STUDY, "--json", "--html", str(html), "--set", "slo.ttft_s=20"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert list(shown)[:12] == [
        "threshold_tokens",
        "n_prfaas",
        "n_p",
        "n_d",
        "theta_prfaas",
        "theta_pdp",
        "theta_pdd",
        "lambda_max",
        "offloaded_fraction",
        "egress_gbit_s",
        "ttft_mean_s",
        "ttft_p90_s",
    ]
    assert set(shown["baselines"]["homogeneous_pd"]) < set(shown)
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_faults_in_one_line(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["plan", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 2
    assert "does not exist; give an existing deployment file" in missing.output
    unwritable = CliRunner().invoke(app, ["plan", CASE_STUDY, "--html", str(tmp_path / "no" / "plan.html")])
    assert unwritable.exit_code == 2
    assert "give a file that can be written" in unwritable.output

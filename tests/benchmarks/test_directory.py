"""The benchmark of the directory runs, and prints what it promises."""

import json

import pytest

from benchmarks import directory


def test_the_benchmark_prints_its_figures(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PROMPT_TOKENS", 4000)
    directory.main(blocks=10_000, told=4096, seed=1, json_output=True)
    figures = json.loads(capsys.readouterr().out)
    keys = (
        "events_s", "events_decoded_s", "lookup_ms_100k", "lookup_ms_100k_worst", "name_ms_100k", "bytes_per_block"
    )  # fmt: skip
    assert all(figures[key] > 0 for key in keys)
    matches = [row["matches"] for row in figures["lookups"]]
    assert matches[:2] == [0, 1]
    assert 20 < matches[2] <= 40
    assert matches[3] == 1000

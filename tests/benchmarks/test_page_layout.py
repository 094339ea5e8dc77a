"""What the documents say of pages is what the code computes, and little of any published model's pages is empty."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.page_layout import LONG_TOKENS, PUBLISHED, figures, main, table, whole_state_tokens
from benchmarks.page_picture import FILE, draw
from prfaas.core.shape import model_shape
from tests.core.configs import CONFIGS
from tests.core.configs import PUBLISHED as CONFIGS_PUBLISHED

DOCUMENT = Path(__file__).parents[2] / "docs/prefix-cache.md"
ROWS = table(sorted(PUBLISHED.glob("*.json")))


def documented(row: dict[str, Any]) -> str:
    """The line that the table in the document must have for a row."""
    cells = [
        f"{row['page_bytes']:,}",
        f"{row['state_pages']:,}",
        *("–" if row[key] is None else f"{row[key]:.1%}".replace("%", " %") for key in ("states_empty", "long_empty")),
        *("–" if row[key] is None else f"{row[key]:,}" for key in ("snapshot_tokens", "whole_state_tokens")),
    ]
    return f"| {row['model']} | {' | '.join(cells)} |"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_the_documents_table_is_what_is_computed(row: dict[str, Any]) -> None:
    assert documented(row) in DOCUMENT.read_text(encoding="utf-8").splitlines()


def test_the_documents_picture_is_what_is_drawn() -> None:
    assert FILE.read_text(encoding="utf-8") == draw(), "run python -m benchmarks.page_picture"


def test_all_published_models_waste_little() -> None:
    assert {row["model"] for row in ROWS} == set(CONFIGS_PUBLISHED)
    for row in ROWS:
        assert (row["states_empty"] or 0) <= 0.12
        assert 0 <= row["long_empty"] <= 0.12


def test_figures_of_kimi_linear_add_up() -> None:
    shape = model_shape(CONFIGS["kimi_linear"], "bfloat16")
    row = figures(shape, 64)
    taken = row["page_bytes"] * (row["state_pages"] + LONG_TOKENS // 64)
    assert row["long_empty"] * taken == pytest.approx(taken - shape.cache_bytes(LONG_TOKENS))
    assert row["snapshot_tokens"] == 64 * 92
    # 32 heads of 128 x 128 fp32 and 3 taps of 3 x 32 x 128 bf16, over a latent of 576 bf16.
    assert row["whole_state_tokens"] == -(-(32 * 128 * 128 * 4 + 3 * 3 * 32 * 128 * 2) // (576 * 2))


def test_a_block_need_hold_no_state_where_there_is_none() -> None:
    assert whole_state_tokens(model_shape(CONFIGS["qwen3"], "bfloat16")) is None


def test_smaller_blocks_make_smaller_pages_but_none_below_a_row() -> None:
    shape = model_shape(CONFIGS["kimi_linear"], "bfloat16")
    assert figures(shape, 32)["page_bytes"] * 2 == figures(shape, 64)["page_bytes"]
    assert figures(shape, 1)["page_bytes"] == shape.largest_row_bytes


def test_any_config_can_be_asked_for(tmp_path: Path) -> None:
    directory = tmp_path / "my-model"
    directory.mkdir()
    (directory / "config.json").write_text((PUBLISHED / "MiMo-V2-Flash.json").read_text(encoding="utf-8"))
    row = table([directory / "config.json"])[0]
    assert row["model"] == "my-model"
    assert row["page_bytes"] == 1_474_560


def test_the_command_prints_a_row_for_each_model_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(json_output=True)
    assert [row["model"] for row in json.loads(capsys.readouterr().out)["rows"]] == [row["model"] for row in ROWS]


@pytest.mark.parametrize("content", ["{}", "not JSON"])
def test_a_config_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(typer.BadParameter):
        main(model_config=[tmp_path / "config.json"])

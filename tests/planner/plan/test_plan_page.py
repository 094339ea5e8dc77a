"""The page stands alone, and the same plan makes the same page."""

import re
from pathlib import Path

import pytest

from prfaas.config.load_deployment import load_deployment
from prfaas.planner.page import PageSection, html_page, table_html, text_html
from prfaas.planner.page_style import DASHES, PALETTE, SYMBOLS
from prfaas.planner.plan.page import page
from prfaas.planner.plan.plan import plan

CASE_STUDY = Path(__file__).parents[3] / "configs" / "case-study.yaml"


@pytest.fixture(scope="module")
def made() -> str:
    return page(plan(load_deployment(CASE_STUDY)))


def test_nothing_is_loaded(made: str) -> None:
    outside = re.sub(r"<script>.*?</script>", "", made, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)\s*=", outside)
    assert not re.search(r"url\(|@import", outside)
    assert "default-src 'none'" in made
    assert made.count("plotly.js v") == 1


def test_what_it_shows(made: str) -> None:
    assert '<p class="lead">Offloading pays: ' in made
    assert made.count('id="figure-') == 16
    assert "prefers-color-scheme: dark" in made
    assert made == page(plan(load_deployment(CASE_STUDY)))


def test_text_is_escaped() -> None:
    whole = html_page("<t>", "a & b", [PageSection("<h>", text_html("<p>") + table_html(["<c>"], [["<d>"]]))])
    for raw in ("<t>", "<h>", "<p><p>", "<c>", "<d>"):
        assert raw not in whole
    assert "a &amp; b" in whole


def test_every_colour_has_its_dash_and_symbol() -> None:
    assert len(PALETTE) == len(DASHES) == len(SYMBOLS) == len(set(PALETTE))

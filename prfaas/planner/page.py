"""The frame of a page that needs nothing but itself: style, both colour schemes, plotly once. Knows no plan, no run."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from prfaas.planner.page_style import STYLE

FIGURE_PX = 340
_FIT = """addEventListener("load", () => document.querySelectorAll(".js-plotly-plot").forEach(Plotly.Plots.resize));"""
"""A figure is drawn before what stands beside it is read, so the first of a row takes the whole row."""
Cell = str | float | None


@dataclass(frozen=True, slots=True)
class PageSection:
    """One part of a page. `body_html` comes from the functions of this module: it is not escaped again."""

    heading: str
    body_html: str


def html_page(title: str, lead: str, sections: Sequence[PageSection]) -> str:
    """A whole page. `lead` is its conclusion in words, set large under the title; both are plain text.

    The page loads nothing from anywhere, and its own policy forbids it to.
    """
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    parts = [f"<section><h2>{escape(s.heading)}</h2>\n{s.body_html}\n</section>" for s in sections]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f"<script>{get_plotlyjs()}</script>",
            f'</head><body><main><h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>',
            *parts,
            f"</main><script>{_FIT}</script></body></html>\n",
        ]
    )


def figure_html(figure: go.Figure, caption: str = "", height_px: int = FIGURE_PX) -> str:
    """A figure as wide as its place. Its texts and lines take the page's colours, so leave those of the layout alone.

    Sets what is left open in the figure itself. The same figure gives the same text.
    """
    figure.update_layout(**_LAYOUT, height=height_px)
    figure.update_xaxes(**_AXIS).update_yaxes(**_AXIS, rangemode="tozero" if _all_positive(figure) else "normal")
    name = blake2b(str(figure.to_json()).encode(), digest_size=8).hexdigest()
    plot = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{name}",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )
    return f"<figure>{plot}{_caption(caption)}</figure>"


def grid_html(*parts: str) -> str:
    """Figures or tables side by side where there is room, one under the other where there is not."""
    return f'<div class="grid">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def table_html(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> str:
    """The first column holds names, the others figures. None is shown as a dash, numbers with four digits at most."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<figure><div class="wide">{table}</div>{_caption(caption)}</figure>'


def text_html(*paragraphs: str) -> str:
    """Plain text."""
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)


def list_html(items: Sequence[str]) -> str:
    """Plain text, with a dot before each."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _caption(caption: str) -> str:
    return f"<figcaption>{escape(caption)}</figcaption>" if caption else ""


def _cell(cell: Cell) -> str:
    text = "–" if cell is None else cell if isinstance(cell, str) else f"{cell:,.4g}"
    return f"<td>{escape(text)}</td>"


def _all_positive(figure: go.Figure) -> bool:
    values = [y for trace in figure.data for y in (trace.y if trace.y is not None else ())]
    return all(not isinstance(y, int | float) or y >= 0 for y in values)


_LAYOUT = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 12},
    "margin": {"l": 52, "r": 12, "t": 8, "b": 44},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "xanchor": "left"},
    "hovermode": "x unified",
}
_AXIS = {"gridcolor": "#8885", "zeroline": False, "automargin": True, "ticks": "", "showline": False}

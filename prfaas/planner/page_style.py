"""How pages look, and which colour a series has wherever it is drawn. Knows no figures."""

from collections.abc import Mapping

PALETTE = ("#1a73c0", "#d39200", "#00916a", "#bf4300", "#c46aa9", "#4ba8de", "#8c95a1")
"""After Okabe and Ito, shifted so that each stands out from a white and from a dark ground, and any two from each other
with every kind of colour vision. Never the only sign: lines differ in their dashes too."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "circle-open")

_PLACES: Mapping[str, int] = {
    "prfaas": 0,
    "static_threshold": 1,
    "local_only": 2,
    "all_remote": 3,
    "isl_or_load": 4,
    "oracle": 5,
    "homogeneous_pd": 2,
    "naive_heterogeneous": 3,
    "pdp": 1,
    "pdd": 2,
    "link": 4,
    "egress": 1,
    "lambda_max": 6,
}


def place(name: str) -> int:
    """Index into PALETTE, DASHES and SYMBOLS: the same for a policy, fleet or stage on every page."""
    return _PLACES.get(name, sum(name.encode()) % len(PALETTE))


def colour(name: str) -> str:
    """`#rrggbb` of a series."""
    return PALETTE[place(name)]


def line(name: str) -> dict[str, object]:
    """plotly's `line` of a series."""
    return {"color": colour(name), "dash": DASHES[place(name)], "width": 2}


def marker(name: str) -> dict[str, object]:
    """plotly's `marker` of a series."""
    return {"color": colour(name), "symbol": SYMBOLS[place(name)], "size": 7}


STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #59636e; --ground: #ffffff; --card: #f6f7f9; --edge: #d8dde3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a3acb6; --ground: #15181d; --card: #1d2127; --edge: #363c45; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.3rem; margin: 0 0 .25rem; color: var(--soft); font-weight: 600; }
.lead { font-size: 1.35rem; line-height: 1.35; margin: 0 0 1.5rem; font-weight: 600; text-wrap: pretty; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--edge); padding-bottom: .25rem; }
p, ul { max-width: 48rem; } ul { padding-left: 1.2rem; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: .875rem; margin: .25rem 0 .5rem; max-width: 48rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
.grid > div { min-width: 0; background: var(--card);
  border: 1px solid var(--edge); border-radius: 8px; padding: .75rem; overflow: hidden; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .45rem; border-bottom: 1px solid var(--edge); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 600; }
.xtick text, .ytick text, .xtitle, .ytitle, .legendtext, .annotation-text, .bartext text, text.bartext, .textpoint text
  { fill: var(--ink) !important; }
.gridlayer path { stroke: var(--edge) !important; }
.hoverlayer .legend .bg { fill: var(--card) !important; stroke: var(--edge) !important; }
.hoverlayer text { fill: var(--ink) !important; }
@media (max-width: 32rem) { .lead { font-size: 1.1rem; } main { padding: 1rem .75rem 3rem; } }
"""

"""A comparison of policies on a terminal. Knows no figures of its own."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prfaas.planner.simulate.outcome import Outcome
from prfaas.planner.simulate.report_columns import BEST, TABLES, FigureTable, cells
from prfaas.planner.simulate.report_words import conclusion

WIDE_COLUMNS = 90
"""Of a terminal on which figures stand two spaces apart; on others one."""


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """The conclusion, then the tables; at least one outcome."""
    console.print(conclusion(outcomes), style="bold", highlight=False)
    for table in TABLES:
        console.print()
        console.print(_table(table, outcomes, narrow=console.width < WIDE_COLUMNS))
    console.print(f"{BEST} the best of its column", style="dim", highlight=False)
    for line in _fallbacks(outcomes):
        console.print(line, highlight=False)


def _table(table: FigureTable, outcomes: Sequence[Outcome], *, narrow: bool) -> Table:
    shown = Table(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        padding=0 if narrow else (0, 1),
    )
    shown.add_column("policy", no_wrap=True, vertical="bottom")
    for column in table.columns:
        shown.add_column(column.heading.strip(), justify="right", vertical="bottom")
    by_column = [cells(column, outcomes) for column in table.columns]
    for row, outcome in enumerate(outcomes):
        shown.add_row(outcome.policy, *(_cell(column[row]) for column in by_column))
    return shown


def _cell(text: str) -> Text:
    return Text(text, style="bold green" if text.endswith(BEST) else "")


def _fallbacks(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{o.policy}: prompts that fell back to the decode instance: "
        + ", ".join(f"{count:,} {reason}" for reason, count in sorted(o.fallbacks.items()))
        for o in outcomes
        if o.fallbacks
    ]

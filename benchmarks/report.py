"""What every benchmark prints: one table for people, or one JSON object; progress goes to stderr."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]
T = TypeVar("T")

progress = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Column:
    """One value of each row (several, if it is a mapping) and its format spec. No value is a dash."""

    heading: str
    key: str
    form: str = ""

    def cell(self, row: Row) -> str:
        value = row.get(self.key)
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {part:{self.form}}" for name, part in value.items()) or "–"
        return "–" if value is None else format(value, self.form)


def show(title: str, columns: Sequence[Column], rows: Sequence[Row], facts: Row, *, json_output: bool) -> None:
    """Prints the rows; `facts` hold for all of them, and say with the machine what the figures are worth."""
    facts = {**facts, "machine": machine()}
    if json_output:
        sys.stdout.write(json.dumps({"benchmark": title, **facts, "rows": list(rows)}) + "\n")
        return
    caption = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
    table = Table(title=title, caption=caption, caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column.heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def machine() -> str:
    """The machine in a line: cores, kernel, Python, torch."""
    return (
        f"{os.cpu_count()} cores {platform.machine()}, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def median_of(items: Sequence[T], value: Callable[[T], float]) -> float:
    return statistics.median(value(item) for item in items)

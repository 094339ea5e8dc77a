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


@dataclass(frozen=True, slots=True)
class Part:
    """One of several tables of a benchmark."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def show(title: str, columns: Sequence[Column], rows: Sequence[Row], facts: Row, *, json_output: bool) -> None:
    """Prints the rows; `facts` hold for all of them, and say with the machine what the figures are worth."""
    facts = {**facts, "machine": machine()}
    if json_output:
        sys.stdout.write(json.dumps({"benchmark": title, **facts, "rows": list(rows)}) + "\n")
    else:
        _print([Part(title, columns, rows)], facts)


def show_parts(title: str, parts: Sequence[Part], result: Row, facts: Row, *, json_output: bool) -> None:
    """Prints a table of each part, or `result`, which has the figures of all."""
    facts = {**facts, "machine": machine()}
    if json_output:
        sys.stdout.write(json.dumps({"benchmark": title, **result, "facts": facts}) + "\n")
    else:
        _print(parts, facts)


def _print(parts: Sequence[Part], facts: Row) -> None:
    """The facts below the last table."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for part in parts:
        table = Table(title=part.title, caption_justify="left")
        if part is parts[-1]:
            table.caption = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
        for i, column in enumerate(part.columns):
            table.add_column(column.heading, justify="right" if i else "left")
        for row in part.rows:
            table.add_row(*(column.cell(row) for column in part.columns))
        console.print(table)


def machine() -> str:
    """The machine in a line: cores, kernel, Python, torch."""
    return (
        f"{os.cpu_count()} cores {platform.machine()}, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def median_of(items: Sequence[T], value: Callable[[T], float]) -> float:
    return statistics.median(value(item) for item in items)

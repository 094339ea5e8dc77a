"""Logarithmic axes with labels that can be read: 1, 2 and 5 of each decade, or 1 alone. Knows no figures."""

from collections.abc import Iterable
from math import log10

POWERS = range(-3, 10)
WIDE_DECADES = 2.5
"""From so many on, only powers of ten are labelled."""


def log_axis(low: float, high: float) -> dict[str, object]:
    """plotly's keys of an axis on which values from `low` to `high`, both positive, are drawn."""
    digits = (1, 2, 5) if log10(high / low) < WIDE_DECADES else (1,)
    values = [digit * 10.0**power for power in POWERS for digit in digits]
    inside = [value for value in values if low / 2 <= value <= high * 2]
    return {"type": "log", "tickvals": inside, "ticktext": [_short(value) for value in inside]}


def log_axis_of(values: Iterable[float | None]) -> dict[str, object]:
    """The axis that these need; what is not positive is not drawn."""
    drawn = [value for value in values if value is not None and value > 0]
    return log_axis(min(drawn), max(drawn)) if drawn else {"type": "log"}


def _short(value: float) -> str:
    return f"{value / 1000:g}K" if value >= 1000 else f"{value:g}"

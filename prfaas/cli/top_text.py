"""Numbers, bars and lines of ten minutes for a terminal. Knows no fleet."""

from collections.abc import Sequence

from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
NONE = "–"


def plain(text: str) -> str:
    """Without what would move the cursor: names and reasons come from elsewhere."""
    return "".join(c if c.isprintable() else "�" for c in text)


def seconds(number: float | None) -> str:
    if number is None:
        return NONE
    if number == 0:
        return "0 s"
    if number < 1:
        return f"{number * 1e3:.3g} ms" if number >= 0.001 else f"{number * 1e6:.0f} µs"
    return f"{number:.2f} s" if number < 10 else f"{number:,.0f} s"


def tokens(number: float) -> str:
    return f"{number:,.0f}" if number < 10_000 else f"{number / 1e3:,.1f}K"


def bits(bytes_per_s: float) -> str:
    rate = bytes_per_s * 8
    return f"{rate / 1e9:.2f} Gbit/s" if rate >= 1e9 else f"{rate / 1e6:.3g} Mbit/s"


def percent(share: float | None) -> str:
    return NONE if share is None else f"{share:.0%}"


def bar(share: float, width: int = 10) -> Text:
    """Filled from the left; yellow above 60 %, red above 90 %."""
    full = round(min(1.0, max(0.0, share)) * width)
    colour = "red" if share > 0.9 else "yellow" if share > 0.6 else "cyan"
    return Text.assemble(("█" * full, colour), ("░" * (width - full), "bright_black"))


def spark(values: Sequence[float | None], top: float, width: int) -> str:
    """The latest at the right; each character is the highest value of its share of the time."""
    if not values or width <= 0:
        return ""
    step = max(1, -(-len(values) // width))
    start = len(values) % step
    cells = [values[:start]] if start else []
    cells += [values[i : i + step] for i in range(start, len(values), step)]
    return "".join(_block(cell, top) for cell in cells)


def _block(cell: Sequence[float | None], top: float) -> str:
    known = [value for value in cell if value is not None]
    if not known:
        return " "
    return BLOCKS[max(1, min(8, round(8 * max(known) / top)))] if top > 0 else BLOCKS[1]

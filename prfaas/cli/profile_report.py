"""A profile, and how it compares with what was measured, as tables or JSON. Measures nothing."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from prfaas.config.profile_file import ProfileFile
from prfaas.planner.measured import Comparison
from prfaas.planner.profiles import profile_of

LENGTHS = (1024, 8192, 32_768, 131_072)


def as_json(profile: ProfileFile, comparisons: Sequence[Comparison]) -> str:
    """One object: `profile` as in a file, `comparisons` with seconds and relative errors."""
    rows = [
        {"what": c.what, "measured_s": c.measured_s, "fitted_s": c.fitted_s, "error": round(c.error, 4)}
        for c in comparisons
    ]
    return json.dumps({"profile": profile.model_dump(mode="json"), "comparisons": rows}, indent=2)


def show_measured(comparisons: Sequence[Comparison], console: Console) -> None:
    """Line by line, and the largest error of all."""
    table = Table(title="measured and fitted")
    table.add_column("what")
    for name in ("measured, ms", "profile, ms", "error"):
        table.add_column(name, justify="right")
    for c in comparisons:
        table.add_row(c.what, f"{c.measured_s * 1e3:,.1f}", f"{c.fitted_s * 1e3:,.1f}", f"{c.error * 100:+.1f} %")
    console.print(table)
    worst = max(comparisons, key=lambda c: abs(c.error))
    console.print(
        f"The profile is off by {abs(worst.error) * 100:.1f} % at most ({worst.what}). Of whole prefills this is the "
        "formula, for lengths beyond those measured; between them the profile follows the measurements.",
        highlight=False,
    )


def show_profile(profile: ProfileFile, console: Console) -> None:
    """Prefill time, and the rate at which it makes KV (Eq 1), at some lengths."""
    model = profile_of(profile)
    table = Table(title=model.name)
    for name in ("tokens", "prefill, s", "KV, MiB", "KV, Gbit/s"):
        table.add_column(name, justify="right")
    for tokens in LENGTHS:
        rate = model.kv_throughput_bytes_s(tokens) * 8e-9
        beyond = "" if model.prefill.covers(tokens) else " (beyond what was measured)"
        table.add_row(
            f"{tokens:,}",
            f"{model.prefill.seconds(tokens):.3f}{beyond}",
            f"{model.kv_bytes(tokens) / 2**20:,.1f}",
            f"{rate:.2f}",
        )
    console.print(table)

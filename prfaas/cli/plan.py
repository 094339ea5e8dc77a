"""`prfaas plan`: a deployment file in, tables, JSON or a page out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prfaas.config.load_deployment import load_deployment
from prfaas.core.errors import ConfigError
from prfaas.planner.plan.plan import plan, plan_json
from prfaas.planner.plan.tables import show


def run_plan(config: Path, overrides: Sequence[str], *, json_output: bool, html: Path | None) -> None:
    """Prints one JSON object or tables; writes the page too. Raises ConfigError."""
    planned = plan(load_deployment(config, overrides))
    if html is not None:
        from prfaas.planner.plan.page import page  # plotly takes its time, and only pages need it

        try:
            html.write_text(page(planned), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--html {html}: {error.strerror}; give a file that can be written") from None
    if json_output:
        sys.stdout.write(json.dumps(plan_json(planned), indent=2) + "\n")
        return
    console = Console()
    show(planned, console)
    if html is not None:
        console.print(f"wrote {html}", highlight=False, markup=False)

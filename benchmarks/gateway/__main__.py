"""`python -m benchmarks.gateway`: what the gateway adds to an answer, and what it costs beside other proxies.

The floor is the same client at the backend itself, and a pass-through proxy that reads nothing of what it passes on.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
import uvloop

from benchmarks.gateway.figures import COLUMNS, LONG_COLUMNS, LongPrompts, figures, long_rows, peer_rows
from benchmarks.gateway.http import AnswerError
from benchmarks.gateway.model import NAME, write_model
from benchmarks.gateway.prompts import KB, LONG_KB, Prompts
from benchmarks.gateway.rounds import CONCURRENCY, answer_times, loads
from benchmarks.gateway.servers import ServerError
from benchmarks.gateway.targets import OURS, SPACING_MS, STRAIGHT, Targets
from benchmarks.gateway.tokenizing import Tokenizing
from benchmarks.report import Part, progress, show_parts
from prfaas.gateway.chat_template import Message

STREAM_TOKENS = 256
EACH = 100
"""Answers of a target in a round, of 1 KB prompts."""


def main(
    peers_python: Annotated[
        Path | None, typer.Option(exists=True, help="Interpreter that has sglang-router and vllm-router.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="In each of them all take their turns; tables show medians.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of many connections, for each target in a round.")] = 3.0,
    directory: Annotated[bool, typer.Option(help="Also run benchmarks.directory, a minute.")] = True,
    seed: int = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Measure the gateway."""
    with tempfile.TemporaryDirectory(prefix="prfaas-bench-") as scratch:
        progress.print("a tokenizer of 32,000 tokens")
        prompts = Prompts(write_model(Path(scratch) / "model"), NAME, seed)
        with Targets(Path(scratch), prompts.body(prompts.unseen(KB))) as targets:
            try:
                result, parts = uvloop.run(_measure(targets, prompts, peers_python, rounds, seconds))
            except (ServerError, AnswerError) as error:
                progress.print(f"cannot measure: {error}", markup=False)
                raise typer.Exit(1) from error
    if directory:
        progress.print("directory")
        result |= _directory()
    facts = {
        "rounds": rounds,
        "connections": CONCURRENCY,
        "chunks_every_ms": SPACING_MS,
        "missing": ", ".join(f"{name} ({why})" for name, why in targets.missing.items()) or "nobody",
    }
    show_parts("gateway", parts, result, facts, json_output=json_output)


async def _measure(
    targets: Targets, prompts: Prompts, peers_python: Path | None, rounds: int, seconds: float
) -> tuple[dict[str, Any], list[Part]]:
    progress.print("starting")
    await targets.start(str(peers_python) if peers_python else None)
    servers = targets.servers
    ends = {name: servers[name] for name in (OURS, STRAIGHT)}

    def make() -> bytes:
        return prompts.body(prompts.unseen(KB))

    progress.print("answers, one at a time")
    times = await answer_times(servers, make, rounds, EACH)
    progress.print("long prompts")
    long = [await _long(targets, prompts, ends, rounds, grows=grows) for grows in (False, True)]
    progress.print("many at a time, and streams")
    stream = prompts.body(prompts.unseen(KB), STREAM_TOKENS, stream=True)
    short_stream = prompts.body(prompts.unseen(KB), 2, stream=True)
    loaded = await loads(servers, make, stream, short_stream, rounds, seconds, STREAM_TOKENS)
    rows = peer_rows(times, loaded)
    parts = [
        Part("Prompts of 1 KB", COLUMNS, rows),
        Part("Prompts of 100 KB through the gateway", LONG_COLUMNS, long_rows(long)),
    ]
    return figures(rows, long), parts


async def _long(
    targets: Targets, prompts: Prompts, ends: Mapping[str, Any], rounds: int, *, grows: bool
) -> LongPrompts:
    """Each prompt is encoded here as well; those that grow have the rest of them encoded before."""
    tokenizing = Tokenizing(targets.directory / "model")
    chat: list[Message] = prompts.conversation(LONG_KB)
    tokenizer_ms, library_ms = [], []

    def make() -> bytes:
        nonlocal chat
        chat = prompts.go_on(chat) if grows else prompts.unseen(LONG_KB)
        tokenizer_ms.append(tokenizing.encoder_ms(chat))
        library_ms.append(tokenizing.library_ms(chat))
        return prompts.body(chat)

    times = await answer_times(ends, make, rounds, 4)
    case = "a conversation that grows" if grows else "never seen before"
    return LongPrompts(case, times, median(tokenizer_ms), median(library_ms))


def _directory() -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.directory", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {key: found[key] for key in ("events_s", "lookup_ms_100k", "lookup_ms_100k_worst")}


if __name__ == "__main__":
    typer.run(main)

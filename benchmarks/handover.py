"""What a prefill in another datacenter costs a request: real processes, real sockets, a relayed link.

Exposed is what the time to first token has beyond queueing and prefill. Part of it is the gateway's work, which every
placement pays; what a placement adds to "by decode itself" is its hand-over.

The floor of a hand-over over a link of R bytes/s and round trip T, connections open:

- T/2 until the prefill request is there, and T/2 for the last byte on its way back: T.
- tail / R, the tail being what the link has still to carry when the prefill ends. KV leaves layer by layer while later
  layers compute, so on a fast link only the last layer of the last chunk is left (it is MLA: a latent per token). The
  linear states, which leave with the last chunk only, and that chunk's other layers join it as far as the link is
  slower than the computing: with t seconds per layer of the last chunk and L layers, layers j and up cannot have left
  before bytes(j and up) / R - (L-1-j) t after the prefill's end, and tail / R is the largest of these over j.

Earlier chunks are taken to have left by then. The relay's timers add up to a millisecond in each direction.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchmarks.demo_fleet import DECODE_ALONE, MODEL_NAME, TWO_DATACENTERS, Prompts, fleet, fleet_file
from benchmarks.report import Column, median_of, progress, show
from prfaas.cli.demo_client import Ask, DemoClient, Result
from prfaas.config.sections import EngineSection
from prfaas.core.model_files import read_config
from prfaas.core.shape import ModelShape, model_shape
from prfaas.models.demo_model import write_demo_model

COLUMNS = (
    Column("prompt\ntokens", "prompt_tokens", ","),
    Column("prefilled", "prefilled"),
    Column("TTFT\np50 ms", "ttft_ms", ".1f"),
    Column("prefill\nms", "prefill_ms", ".1f"),
    Column("queue\nms", "queue_ms", ".1f"),
    Column("KV MB", "kv_mb", ".2f"),
    Column("transfer\nms", "transfer_ms", ".1f"),
    Column("exposed\nms", "exposed_ms", ".1f"),
    Column("hand-over\nms", "handover_ms", ".1f"),
    Column("floor\nms", "floor_ms", ".1f"),
    Column("of\nfloor", "of_floor", ".2f"),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A placement, and the instance that must have prefilled for it."""

    label: str
    force: Literal["local", "remote"] | None
    instance: str


ALONE = Variant("by decode itself", None, "west-decode")
LOCAL = Variant("by the local prefill", "local", "west-prefill")
REMOTE = Variant("across the link", "remote", "east-prefill")
VARIANTS = (ALONE, LOCAL, REMOTE)


def main(
    gbit_s: Annotated[float, typer.Option(help="The link's rate.")] = 1.0,
    rtt_ms: Annotated[float, typer.Option(help="The link's round trip.")] = 20.0,
    tokens: Annotated[list[int] | None, typer.Option(help="Prompt lengths. Repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Requests of each kind; the table shows medians.")] = 9,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Measure what a prefill in another datacenter costs a request."""
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        write_demo_model(model)
        results = asyncio.run(_measure(Path(scratch), model, gbit_s, rtt_ms, tokens or [256, 1024, 4096], rounds))
        shape = model_shape(read_config(model), "float32")
    rows = [row for of_length in results for row in _rows(shape, of_length, gbit_s, rtt_ms)]
    facts = {
        "link": f"{gbit_s:g} Gbit/s, {rtt_ms:g} ms round trip",
        "rounds": rounds,
        "chunk_tokens": EngineSection().step_tokens,
    }
    show("hand-over of a prefill", COLUMNS, rows, facts, json_output=json_output)


async def _measure(
    folder: Path, model: Path, gbit_s: float, rtt_ms: float, lengths: Sequence[int], rounds: int
) -> list[dict[Variant, list[Result]]]:
    """For each length the answers of each variant. Variants take turns, one request at a time."""
    both_file, alone_file = folder / "both.yaml", folder / "alone.yaml"
    both = fleet_file(both_file, model, TWO_DATACENTERS, gbit_s, rtt_ms)
    alone = fleet_file(alone_file, model, DECODE_ALONE, gbit_s, rtt_ms)
    prompts = Prompts(model)
    progress.print("starting two fleets")
    measured = []
    async with (
        fleet(both, both_file) as large,
        fleet(alone, alone_file) as small,
        DemoClient(large.child("router").addresses["http"], MODEL_NAME) as to_large,
        DemoClient(small.child("router").addresses["http"], MODEL_NAME) as to_small,
    ):
        clients = {variant: to_small if variant is ALONE else to_large for variant in VARIANTS}
        for length in lengths:
            rounds_done = [
                {v: await _ask(clients[v], prompts.of(length), v) for v in VARIANTS} for _ in range(rounds + 1)
            ]
            # The first round opens connections.
            measured.append({variant: [answers[variant] for answers in rounds_done[1:]] for variant in VARIANTS})
            progress.print(f"{length:,} tokens: done")
    return measured


async def _ask(client: DemoClient, prompt: str, variant: Variant) -> Result:
    answer = await client.ask(Ask(variant.label, prompt, max_tokens=1, prefill=variant.force))
    prefilled_by = answer.account["prefill"]["instance"]
    assert prefilled_by == variant.instance, f"{prefilled_by} prefilled what {variant.instance} should have"
    return answer


def _rows(
    shape: ModelShape, answers: dict[Variant, list[Result]], gbit_s: float, rtt_ms: float
) -> list[dict[str, Any]]:
    exposed_alone = median_of(answers[ALONE], _exposed_ms)
    rows = []
    for variant, results in answers.items():
        row: dict[str, Any] = {
            "prompt_tokens": round(median_of(results, lambda r: r.account["usage"]["prompt_tokens"])),
            "prefilled": variant.label,
            "kv_mb": median_of(results, lambda r: r.account["kv"]["bytes_wire"] / 1e6),
            "transfer_ms": median_of(results, lambda r: r.account["kv"]["transfer_ms"]),
            "exposed_ms": median_of(results, _exposed_ms),
        }
        for key in ("ttft_ms", "prefill_ms", "queue_ms"):
            row[key] = median_of(results, lambda r, key=key: r.account[key])  # type: ignore[misc]
        if variant is not ALONE:
            row["handover_ms"] = row["exposed_ms"] - exposed_alone
        if variant is REMOTE:
            tail_s = _tail_s(shape, row["prompt_tokens"], row["prefill_ms"] / 1e3, gbit_s * 1e9 / 8)
            row["floor_ms"] = rtt_ms + tail_s * 1e3
            row["of_floor"] = row["handover_ms"] / row["floor_ms"]
        rows.append(row)
    return rows


def _exposed_ms(result: Result) -> float:
    account = result.account
    return float(account["ttft_ms"] - account["prefill_ms"] - account["queue_ms"])


def _tail_s(shape: ModelShape, tokens: int, prefill_s: float, bytes_s: float) -> float:
    """How long the link is still busy after the prefill's end, at best; the module's docstring derives it."""
    step_tokens = EngineSection().step_tokens
    last_tokens = tokens - (tokens - 1) // step_tokens * step_tokens
    layer_s = prefill_s * last_tokens / tokens / len(shape.layers)
    latest_s, num_bytes = 0.0, 0
    for left, layer in enumerate(reversed(shape.layers)):
        num_bytes += layer.num_bytes * (last_tokens if layer.paged else 1)
        latest_s = max(latest_s, num_bytes / bytes_s - left * layer_s)
    return latest_s


if __name__ == "__main__":
    typer.run(main)

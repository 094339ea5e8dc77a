"""The prefix cache: how much of a trace's prompts it saves, what it costs a request, and a second prompt's first token.

The bound is what an unlimited cache would find if states needed no snapshots; a pool's floor is eviction by last use.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from benchmarks.prefix_replay import bookkeeping, warm_start
from benchmarks.prefix_replay.trace import TracedPrompt, distinct_ids, read_trace, total_tokens
from benchmarks.prefix_replay.variants import Variant, measure, variants
from benchmarks.report import Column, progress, show
from prfaas.cache.layout import PageLayout, lay_out
from prfaas.config.sections import PrefixCacheSection
from prfaas.core.errors import PrfaasError
from prfaas.core.model_files import read_json
from prfaas.core.shape import model_shape
from prfaas.planner.simulate.arrival import ID_TOKENS

PAGE_TOKENS = 64
PROMPT_TOKENS = 100_000
SHARED_TOKENS = 8192
KIMI_LINEAR = Path(__file__).parents[1] / "prfaas/planner/published/Kimi-Linear-48B-A3B.json"
TARGETS = {
    "hit_rate": (">=", 0.360),
    "policy_over_lru": (">=", 1.1),
    "match_ms_100k": ("<=", 1.5),
    "hash_ms_100k": ("<=", 3.0),
    "index_bytes_per_block": ("<=", 250.0),
    "warm_ttft_ratio": ("<=", 0.1),
}
"""What the project asks of itself."""

COLUMNS = (
    Column("needed of a prefix", "name"),
    Column("pool, blocks\nof 512 tokens", "pool_blocks", ",d"),
    Column("eviction", "eviction"),
    Column("hit rate", "hit_rate", ".2%"),
    Column("times\nlru", "times_lru", ".2f"),
    Column("snapshots\ntaken", "snapshots_taken", ",d"),
    Column("snapshots\nheld, GB", "snapshot_gb", ",.1f"),
    Column("KV held,\nGB", "kv_gb", ",.1f"),
    Column("replay,\nseconds", "seconds", ".1f"),
)

TraceOption = Annotated[
    Path, typer.Option(help="Mooncake's JSON lines: timestamp, input_length, output_length, hash_ids.")
]
ModelOption = Annotated[Path, typer.Option(help="The config.json of the model whose cache it is.")]
PoolOption = Annotated[int, typer.Option(min=2, help="Of the limited pool, in 512-token blocks of KV.")]


def main(
    trace: TraceOption,
    model_config: ModelOption = KIMI_LINEAR,
    pool_blocks: PoolOption = 10_000,
    every_tokens: Annotated[
        int, typer.Option(min=0, help="Snapshots inside prompts.")
    ] = PrefixCacheSection().snapshot_every_tokens,
    rounds: Annotated[int, typer.Option(min=1, help="Of what is timed; medians are shown.")] = 31,
    skip_engine: Annotated[bool, typer.Option(help="Leave out the warm start.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of the engine.")] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Measure the prefix cache."""
    try:
        prompts = read_trace(trace)
        layout = lay_out(model_shape(read_json(model_config), "bfloat16"), PAGE_TOKENS)
        rows = _replays(prompts, layout, pool_blocks, every_tokens)
        figures = headline(rows, pool_blocks) | _bookkeeping(layout.state_pages, rounds)
        figures |= {} if skip_engine else _warm_start(threads)
    except PrfaasError as error:
        progress.print(f"no figures: {error}")
        raise typer.Exit(1) from error
    _show(rows, figures, _facts(prompts, layout, model_config, every_tokens), json_output=json_output)


def _replays(
    trace: Sequence[TracedPrompt], layout: PageLayout, pool_blocks: int, every_tokens: int
) -> list[dict[str, Any]]:
    todo: list[Variant] = variants(pool_blocks)
    rows = [
        measure(variant, trace, layout, every_tokens)
        for variant in track(todo, "replaying", console=progress, transient=True)
    ]
    by_lru = {(row["name"], row["pool_blocks"]): row["hit_rate"] for row in rows if row["eviction"] == "lru"}
    for row in rows:
        row["snapshot_gb"], row["kv_gb"] = row["snapshot_bytes"] / 1e9, row["kv_bytes"] / 1e9
        if row["eviction"] == "cost":
            row["times_lru"] = row["hit_rate"] / by_lru[row["name"], row["pool_blocks"]]
    return rows


def headline(rows: Sequence[dict[str, Any]], pool_blocks: int) -> dict[str, Any]:
    """The figures that the project has targets for, out of the rows."""

    def row(name: str, pool: int | None, eviction: str | None) -> dict[str, Any]:
        (found,) = (r for r in rows if (r["name"], r["pool_blocks"], r["eviction"]) == (name, pool, eviction))
        return found

    unlimited = row("KV and states", None, None)
    lru, cost = (row("KV and states", pool_blocks, eviction)["hit_rate"] for eviction in ("lru", "cost"))
    return {
        "hit_rate": unlimited["hit_rate"],
        "hit_rate_bound": row("KV only", None, None)["hit_rate"],
        "hit_rate_partial_ids": row("KV and states, partial ids too", None, None)["hit_rate"],
        "snapshot_bytes": unlimited["snapshot_bytes"],
        "lru_hit_rate": lru,
        "policy_hit_rate": cost,
        "policy_over_lru": cost / lru,
    }


def _bookkeeping(state_pages: int, rounds: int) -> dict[str, float]:
    progress.print("timing the index")
    return {
        "match_ms_100k": bookkeeping.match_ms(PROMPT_TOKENS, state_pages, rounds, evicting=False),
        "match_evicting_ms_100k": bookkeeping.match_ms(PROMPT_TOKENS, state_pages, rounds, evicting=True),
        "hash_ms_100k": bookkeeping.hash_ms(PROMPT_TOKENS, rounds),
        "index_bytes_per_block": bookkeeping.index_bytes_per_block(),
    }


def _warm_start(threads: int) -> dict[str, float]:
    progress.print(f"two prompts that share {SHARED_TOKENS:,} tokens")
    starts = asyncio.run(warm_start.measure(SHARED_TOKENS, rounds=5, threads=threads))
    return {"warm_ttft_ratio": starts.ratio, "cold_ttft_ms": starts.cold_ms, "warm_ttft_ms": starts.warm_ms}


def _facts(trace: Sequence[TracedPrompt], layout: PageLayout, model: Path, every_tokens: int) -> dict[str, Any]:
    return {
        "model": model.stem,
        "prompts": len(trace),
        "tokens": total_tokens(trace),
        "distinct_512_token_ids": distinct_ids(trace),
        "page_bytes": layout.page_bytes,
        "state_pages": layout.state_pages,
        "pages_per_512_tokens": ID_TOKENS // layout.page_tokens,
        "snapshot_every_tokens": every_tokens,
    }


def missed(figures: dict[str, Any]) -> list[str]:
    """Targets that this run did not reach, with what it reached."""
    return [
        f"{name} {figures[name]:.3g} ({how} {asked:g})"
        for name, (how, asked) in TARGETS.items()
        if name in figures and not (figures[name] >= asked if how == ">=" else figures[name] <= asked)
    ]


def _show(rows: list[dict[str, Any]], figures: dict[str, Any], facts: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        show("prefix cache", COLUMNS, rows, facts | figures | {"targets_missed": missed(figures)}, json_output=True)
        return
    told = {name: f"{value:.4g}" for name, value in figures.items() if not name.endswith("bytes")}
    asked = {"targets_missed": ", ".join(missed(figures)) or "none"}
    show("prefix cache", COLUMNS, rows, facts | told | asked, json_output=False)


if __name__ == "__main__":
    typer.run(main)

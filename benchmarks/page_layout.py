"""What pages of one size cost in padding, for the published models or for any `config.json`. Starts no engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.report import Column, show
from prfaas.cache.layout import lay_out, waste
from prfaas.core.errors import PrfaasError
from prfaas.core.model_files import read_json
from prfaas.core.shape import DType, ModelShape, model_shape

PUBLISHED = Path(__file__).parents[1] / "prfaas/planner/published"
PAGE_TOKENS = 64
LONG_TOKENS = 8192
COLUMNS = (
    Column("model", "model"),
    Column("page, bytes", "page_bytes", ",d"),
    Column("state pages", "state_pages", ",d"),
    Column("empty, states", "states_empty", ".1%"),
    Column("empty, with 8,192 tokens", "long_empty", ".1%"),
    Column("KV as large as a snapshot, tokens", "snapshot_tokens", ",d"),
    Column("block as large as one layer's state, tokens", "whole_state_tokens", ",d"),
)
ConfigsOption = Annotated[list[Path] | None, typer.Option("--model-config", help="A config.json; repeatable.")]


def main(
    model_config: ConfigsOption = None,
    page_tokens: Annotated[int, typer.Option(min=1, max=64)] = PAGE_TOKENS,
    float32: Annotated[bool, typer.Option("--float32", help="KV in float32 instead of bfloat16.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Page sizes, pages of a request's states, and the share of them that holds nothing."""
    dtype: DType = "float32" if float32 else "bfloat16"
    try:
        rows = table(model_config or sorted(PUBLISHED.glob("*.json")), page_tokens, dtype)
    except PrfaasError as error:
        raise typer.BadParameter(str(error)) from None
    show("page layout", COLUMNS, rows, {"page_tokens": page_tokens, "dtype": dtype}, json_output=json_output)


def table(configs: Sequence[Path], page_tokens: int = PAGE_TOKENS, dtype: DType = "bfloat16") -> list[dict[str, Any]]:
    """A row for each file, in order; a file named config.json goes by its folder. Raises ModelError."""
    return [
        {
            "model": path.parent.name if path.stem == "config" else path.stem,
            **figures(model_shape(read_json(path), dtype), page_tokens),
        }
        for path in configs
    ]


def figures(shape: ModelShape, page_tokens: int) -> dict[str, Any]:
    """Of one model. What does not apply to a model without states, or without full attention, is None."""
    layout = lay_out(shape, page_tokens)
    per_page = page_tokens if shape.paged_layers else 0
    return {
        "page_bytes": layout.page_bytes,
        "state_pages": layout.state_pages,
        "states_empty": waste(shape, page_tokens) if layout.state_pages else None,
        "long_empty": waste(shape, page_tokens, LONG_TOKENS),
        "snapshot_tokens": layout.state_pages * per_page or None,
        "whole_state_tokens": whole_state_tokens(shape),
    }


def whole_state_tokens(shape: ModelShape) -> int | None:
    """Tokens of a block whose KV, in one layer, is no smaller than the largest state of one layer.

    The block of a pool whose pages belong to one layer each, and hold a block of KV or a whole state: it has to be so
    large that the state fits. None where a model has only one of the two.
    """
    states = [shape.layers[i].num_bytes for i in shape.state_layers]
    tokens = [shape.layers[i].num_bytes for i in shape.paged_layers]
    return -(-max(states) // min(tokens)) if states and tokens else None


if __name__ == "__main__":
    typer.run(main)

"""What one token must cost, whoever computes it: weight bytes to read, operations to do. Knows no engine's tricks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, assert_never

from prfaas.core.decoder_spec import DecoderSpec, Experts, Gdn, Gqa, Kda, Lightning, Mixer, Mla
from prfaas.core.families.registry import decoder_spec
from prfaas.core.model_files import read_config

_HEADER_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Lower bounds for one token alone."""

    weight_bytes: float
    """Of the stored weights, those that a decoded token needs: of routed experts its own, of the embedding a row."""
    prefill_flop: float
    """Of a prompt's token on average: two per weight of its products, and attention. The head is for the last one."""


def token_cost(directory: Path, prompt_tokens: int) -> TokenCost:
    """Reads the checkpoint's config and the headers of its weight files."""
    spec = decoder_spec(read_config(directory))
    weight_bytes = flop = 0.0
    for name, tensor in _stored(directory):
        share = _share(name, spec)
        start, end = tensor["data_offsets"]
        weight_bytes += share * (end - start)
        if len(tensor["shape"]) > 1 and not name.startswith(("lm_head.", "model.embed_tokens.")):
            flop += share * 2 * prod(tensor["shape"])
    flop += sum(mixing_flop(layer.mixer, prompt_tokens) for layer in spec.layers)
    return TokenCost(weight_bytes, flop)


def mixing_flop(mixer: Mixer, prompt_tokens: int) -> float:
    """Operations per token beyond the projections, averaged over a prompt.

    Attention: scores and sums over half the prompt. Linear attention: the recurrence, which multiplies a state of
    K x V per head three times (read, correct, write; arXiv 2412.06464, Eq. 10), lightning's without the correction.
    """
    match mixer:
        case Gqa(num_heads=heads, k_dim=k, v_dim=v, window=window):
            return heads * (k + v) * (prompt_tokens if window is None else min(prompt_tokens, 2 * window))
        case Mla(num_heads=heads, nope_dim=nope, rope_dim=rope, v_dim=v):
            return heads * (nope + rope + v) * prompt_tokens
        case Kda(num_heads=heads, head_dim=size):
            return 6 * heads * size * size
        case Gdn(num_v_heads=heads, k_dim=k, v_dim=v):
            return 6 * heads * k * v
        case Lightning(num_heads=heads, head_dim=size):
            return 4 * heads * size * size
        case _:
            assert_never(mixer)


def _share(name: str, spec: DecoderSpec) -> float:
    """How much of a stored tensor one token needs."""
    if name == "model.embed_tokens.weight" and not spec.tie_embeddings:
        return 1 / spec.vocab_size
    if ".experts." in name:
        mlp = next(layer.mlp for layer in spec.layers if isinstance(layer.mlp, Experts))
        return mlp.per_token / mlp.num_experts
    return 1.0


def _stored(directory: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and header entry of each tensor; no weight is read."""
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        yield from header.items()

"""A family's whole weight map: its prefixes, its ends, its layers, and what it stores that a decoder does not need."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from prfaas.core.decoder_spec import DecoderSpec, LayerSpec
from prfaas.models.weight_maps.sources import Map, Sources, named

LayerMap = Callable[[LayerSpec], Map]

_PREDICTS = ".eh_proj."
"""Joins a layer for multi-token prediction to the last hidden state; such layers are stored after the others."""

NORMS: Map = {
    "mixer_norm": named("input_layernorm.weight"),
    "mlp_norm": named("post_attention_layernorm.weight"),
}
"""What nearly every family calls the two norms of a layer."""


@dataclass(frozen=True)
class FamilyMap:
    """Names of layer tensors are relative to `{prefix}layers.{i}.`, those of the ends to `prefix`."""

    layer: LayerMap
    embedding: str = "embed_tokens.weight"
    prefixes: tuple[str, ...] = ("model.",)
    """The first under which the checkpoint has an embedding is taken."""
    unused_names: str = r"$^"
    """A pattern of tensors that may be there and are not needed."""

    def sources(self, spec: DecoderSpec, stored: Collection[str]) -> dict[str, Sources]:
        """Where each canonical part may be found in a checkpoint that has the tensors `stored`."""
        prefix = next((p for p in self.prefixes if p + self.embedding in stored), self.prefixes[0])
        found = {
            "embedding": named(prefix + self.embedding),
            "final_norm": named(f"{prefix}norm.weight"),
            "head": named("lm_head.weight"),
        }
        for i, layer in enumerate(spec.layers):
            at = f"{prefix}layers.{i}."
            for name, sources in {**NORMS, **self.layer(layer)}.items():
                found[f"layers.{i}.{name}"] = tuple(source.under(at) for source in sources)
        return found

    def unused(self, spec: DecoderSpec, stored: Collection[str]) -> set[str]:
        """Those of `stored` that may be left: auxiliary parts, further layers that predict tokens, a tied head."""
        predicting = {layer for name in stored if (layer := _layer_of(name)) is not None and _PREDICTS in name}
        further = {layer for layer in predicting if layer >= len(spec.layers)}
        found = {name for name in stored if re.search(self.unused_names, name) or _layer_of(name) in further}
        return found | ({"lm_head.weight"} if spec.tie_embeddings else set())


def _layer_of(name: str) -> int | None:
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    return int(found[1]) if found else None

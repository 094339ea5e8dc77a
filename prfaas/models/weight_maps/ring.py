"""Ring-2.5 and Ling-2.5."""

from prfaas.core.decoder_spec import Experts, LayerSpec, Lightning, Mla
from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.mla import mla
from prfaas.models.weight_maps.sources import Map, experts, named, rows, swiglu

_AT = "attention"


def _lightning(spec: Lightning) -> Map:
    cuts = {part: rows((spec.num_heads * spec.head_dim,) * 3, i) for i, part in enumerate("qkv")}
    return {
        **{f"mixer.{part}": named(f"{_AT}.query_key_value.weight", build=cut) for part, cut in cuts.items()},
        "mixer.gate": named(f"{_AT}.g_proj.weight"),
        "mixer.q_norm": named(f"{_AT}.query_layernorm.weight"),
        "mixer.k_norm": named(f"{_AT}.key_layernorm.weight"),
        "mixer.out_norm": named(f"{_AT}.g_norm.weight"),
        "mixer.o": named(f"{_AT}.dense.weight"),
    }


def _layer(layer: LayerSpec) -> Map:
    assert isinstance(layer.mixer, Lightning | Mla)
    mixer = _lightning(layer.mixer) if isinstance(layer.mixer, Lightning) else mla(_AT, "dense")
    if not isinstance(layer.mlp, Experts):
        return {**mixer, **swiglu("mlp")}
    return {
        **mixer,
        "mlp.router": named("mlp.gate.weight"),
        "mlp.router_bias": named("mlp.gate.expert_bias"),
        **experts("mlp.experts", layer.mlp.num_experts),
        **swiglu("mlp.shared_experts", prefix="mlp.shared_"),
    }


RING = FamilyMap(_layer, embedding="word_embeddings.weight")

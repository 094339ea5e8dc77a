"""MiniMax-01 and MiniMax-M2."""

from prfaas.core.decoder_spec import Experts, Gqa, LayerSpec, Lightning
from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.gqa import gqa
from prfaas.models.weight_maps.sources import Map, experts, named, of_heads

_AT, _MOE = "self_attn", "block_sparse_moe"


def _lightning(spec: Lightning) -> Map:
    cuts = {part: of_heads(spec.num_heads, (spec.head_dim,) * 3, i) for i, part in enumerate("qkv")}
    return {
        **{f"mixer.{part}": named(f"{_AT}.qkv_proj.weight", build=cut) for part, cut in cuts.items()},
        "mixer.gate": named(f"{_AT}.output_gate.weight"),
        "mixer.out_norm": named(f"{_AT}.norm.weight"),
        "mixer.o": named(f"{_AT}.out_proj.weight"),
    }


def _layer(layer: LayerSpec) -> Map:
    assert isinstance(layer.mixer, Gqa | Lightning)
    assert isinstance(layer.mlp, Experts)
    mixer = gqa(layer.mixer) if isinstance(layer.mixer, Gqa) else _lightning(layer.mixer)
    return {
        **mixer,
        "mlp.router": named(f"{_MOE}.gate.weight"),
        "mlp.router_bias": named(f"{_MOE}.e_score_correction_bias"),
        **experts(f"{_MOE}.experts", layer.mlp.num_experts, "w1", "w3", "w2"),
    }


MINIMAX = FamilyMap(
    _layer, unused_names=r"self_attn\.(slope_rate|query_decay|key_decay|diagonal_decay)$"
)  # computed from the config
MINIMAX_M2 = FamilyMap(_layer, unused_names=r"^model\.mtp|rotary_emb\.inv_freq$")

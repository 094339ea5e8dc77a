"""MiMo-V2-Flash."""

from prfaas.core.decoder_spec import Experts, Gqa, LayerSpec
from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.gqa import gqa
from prfaas.models.weight_maps.sources import Map, experts, named, swiglu


def _layer(layer: LayerSpec) -> Map:
    assert isinstance(layer.mixer, Gqa)
    mixer = gqa(layer.mixer, sinks="attention_sink_bias")
    if not isinstance(layer.mlp, Experts):
        return {**mixer, **swiglu("mlp")}
    return {
        **mixer,
        "mlp.router": named("mlp.gate.weight"),
        "mlp.router_bias": named("mlp.gate.e_score_correction_bias"),
        **experts("mlp.experts", layer.mlp.num_experts),
    }


MIMO_V2_FLASH = FamilyMap(_layer, unused_names=r"^model\.mtp\.")

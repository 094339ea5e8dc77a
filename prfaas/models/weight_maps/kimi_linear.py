"""Kimi Linear: published names, and those that transformers writes."""

from prfaas.core.decoder_spec import Experts, Kda, LayerSpec
from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.mla import mla
from prfaas.models.weight_maps.sources import Map, experts, flat, named, swiglu, taps

_SPARSE = "block_sparse_moe"


def _kda() -> Map:
    at = "self_attn"
    return {
        **{f"mixer.{part}": named(f"{at}.{part}_proj.weight") for part in "qkv"},
        **{f"mixer.{part}_conv": named(f"{at}.{part}_conv1d.weight", build=taps) for part in "qkv"},
        "mixer.decay_down": named(f"{at}.f_a_proj.weight"),
        "mixer.decay_up": named(f"{at}.f_b_proj.weight"),
        "mixer.gate_down": named(f"{at}.g_a_proj.weight"),
        "mixer.gate_up": named(f"{at}.g_b_proj.weight"),
        "mixer.beta": named(f"{at}.b_proj.weight"),
        "mixer.a_log": named(f"{at}.A_log", build=flat),
        "mixer.dt_bias": named(f"{at}.dt_bias"),
        "mixer.out_norm": named(f"{at}.o_norm.weight"),
        "mixer.o": named(f"{at}.o_proj.weight"),
    }


def _mlp(layer: LayerSpec) -> Map:
    if not isinstance(layer.mlp, Experts):
        return swiglu("mlp", _SPARSE)  # transformers gives dense layers the name of sparse ones
    return {
        "mlp.router": named(f"{_SPARSE}.gate.weight"),
        "mlp.router_bias": named(f"{_SPARSE}.gate.e_score_correction_bias"),
        **experts(f"{_SPARSE}.experts", layer.mlp.num_experts, "w1", "w3", "w2"),
        **swiglu(f"{_SPARSE}.shared_experts", prefix="mlp.shared_"),
    }


def _layer(layer: LayerSpec) -> Map:
    mixer = _kda() if isinstance(layer.mixer, Kda) else mla("self_attn", "o_proj")
    return {**mixer, **_mlp(layer)}


KIMI_LINEAR = FamilyMap(_layer)

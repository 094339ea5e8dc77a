"""Qwen3, Qwen3-Next and Qwen3.5, dense and sparse, text only or within a multimodal checkpoint."""

from prfaas.core.decoder_spec import Experts, Gdn, Gqa, LayerSpec, Mlp
from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.gqa import gqa
from prfaas.models.weight_maps.sources import Build, Map, Source, experts, named, of_heads, rows, swiglu, taps, whole

_AT = "linear_attn"


def _gdn(gdn: Gdn) -> Map:
    widths = _widths(gdn)
    conv = f"{_AT}.conv1d.weight"
    return {
        **_gdn_inputs(gdn),
        **{f"mixer.{part}_conv": named(conv, build=rows(widths, i, taps)) for i, part in enumerate("qkv")},
        "mixer.a_log": named(f"{_AT}.A_log"),
        "mixer.dt_bias": named(f"{_AT}.dt_bias"),
        "mixer.out_norm": named(f"{_AT}.norm.weight"),
        "mixer.o": named(f"{_AT}.out_proj.weight"),
    }


def _widths(gdn: Gdn) -> tuple[int, int, int]:
    """Of queries, keys and values."""
    k_width = gdn.num_k_heads * gdn.k_dim
    return k_width, k_width, gdn.num_v_heads * gdn.v_dim


def _gdn_inputs(gdn: Gdn) -> Map:
    """Qwen3.5 stores the inputs apart, Qwen3-Next interleaved: per key head its q, k, v and gate, and its b and a."""
    group = gdn.num_v_heads // gdn.num_k_heads
    mixed = (gdn.k_dim, gdn.k_dim, group * gdn.v_dim, group * gdn.v_dim)

    def either(apart: str, build: Build, together: str, sizes: tuple[int, ...], index: int) -> tuple[Source, ...]:
        interleaved = of_heads(gdn.num_k_heads, sizes, index)
        return (Source((f"{_AT}.{apart}.weight",), build), Source((f"{_AT}.{together}.weight",), interleaved))

    qkv = {
        f"mixer.{part}": either("in_proj_qkv", rows(_widths(gdn), i), "in_proj_qkvz", mixed, i)
        for i, part in enumerate("qkv")
    }
    return {
        **qkv,
        "mixer.gate": either("in_proj_z", whole, "in_proj_qkvz", mixed, 3),
        "mixer.beta": either("in_proj_b", whole, "in_proj_ba", (group, group), 0),
        "mixer.decay": either("in_proj_a", whole, "in_proj_ba", (group, group), 1),
    }


def _mlp(mlp: Mlp) -> Map:
    if not isinstance(mlp, Experts):
        return swiglu("mlp")
    return {
        "mlp.router": named("mlp.gate.weight"),
        **experts("mlp.experts", mlp.num_experts),
        **swiglu("mlp.shared_expert", prefix="mlp.shared_"),
        "mlp.shared_score": named("mlp.shared_expert_gate.weight"),
    }


def _layer(layer: LayerSpec) -> Map:
    assert isinstance(layer.mixer, Gdn | Gqa)
    mixer = _gdn(layer.mixer) if isinstance(layer.mixer, Gdn) else gqa(layer.mixer)
    return {**mixer, **_mlp(layer.mlp)}


QWEN = FamilyMap(_layer, prefixes=("model.", "model.language_model."), unused_names=r"^mtp\.|^model\.visual\.")

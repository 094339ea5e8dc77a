"""Readers of `config.json`: what they require, what they refuse, and that nothing else escapes them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ModelError, UnsupportedModelError
from prfaas.core.families.registry import READERS, decoder_spec
from prfaas.core.shape import shape_of
from tests.core.configs import CONFIGS, PUBLISHED, Raw, without

_ALL = "model_type vocab_size hidden_size num_hidden_layers num_attention_heads"
_GQA = f"{_ALL} num_key_value_heads max_position_embeddings"
_GDN = "linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim linear_conv_kernel_dim"
_MLA = "kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim"
_SHARED = "moe_intermediate_size num_experts_per_tok shared_expert_intermediate_size"
REQUIRED = {
    "kimi_linear": f"{_ALL} {_MLA} intermediate_size moe_intermediate_size num_experts_per_token num_shared_experts "
    "rms_norm_eps model_max_length linear_attn_config",
    "mimo_v2_flash": f"{_GQA} head_dim v_head_dim intermediate_size moe_intermediate_size n_routed_experts "
    "num_experts_per_tok layernorm_epsilon rope_theta swa_rope_theta hybrid_layer_pattern moe_layer_freq",
    "minimax": f"{_GQA} rms_norm_eps intermediate_size num_local_experts num_experts_per_tok layer_types "
    "rope_parameters",
    "minimax_m2": f"{_GQA} rms_norm_eps head_dim intermediate_size num_local_experts num_experts_per_tok rope_theta",
    "qwen3": f"{_GQA} rms_norm_eps intermediate_size rope_theta",
    "qwen3_5": f"{_GQA} {_GDN} rms_norm_eps head_dim intermediate_size rope_parameters",
    "qwen3_5_moe": f"{_GQA} {_GDN} {_SHARED} rms_norm_eps head_dim num_experts rope_parameters",
    "qwen3_moe": f"{_GQA} rms_norm_eps moe_intermediate_size num_experts_per_tok rope_theta",
    "qwen3_next": f"{_GQA} {_GDN} {_SHARED} rms_norm_eps head_dim rope_theta",
    "ring": f"{_ALL.removeprefix('model_type ')} {_MLA} rms_norm_eps max_position_embeddings intermediate_size "
    "moe_intermediate_size num_experts num_experts_per_tok layer_group_size rope_theta architectures n_group",
}
OTHERWISE = {
    "linear_attn_config": "layer_types",
    "hybrid_layer_pattern": "layer_types",
    "moe_layer_freq": "mlp_layer_types",
    "rope_parameters": "rope_theta",
    "architectures": "model_type",
    "n_group": "groups",
    "num_experts": "num_experts|intermediate_size",
}
"""What is named where a key is one of two spellings, or where its absence means something else."""
MAY_BE_ZERO = {"num_shared_experts", "shared_expert_intermediate_size"}
CASES = [(family, key) for family, keys in REQUIRED.items() for key in keys.split()]


def test_every_family_is_tested() -> None:
    assert set(CONFIGS) == set(REQUIRED) == set(READERS)


@pytest.mark.parametrize("family", CONFIGS)
def test_valid_configs_are_read(family: str) -> None:
    spec = decoder_spec(CONFIGS[family])
    assert spec.model_type == family
    assert len(spec.layers) == CONFIGS[family]["num_hidden_layers"]


@pytest.mark.parametrize("family", CONFIGS)
def test_exactly_these_keys_are_required(family: str) -> None:
    raw = CONFIGS[family]
    assert {key for key in raw if is_refused(without(raw, key))} == set(REQUIRED[family].split())


def is_refused(raw: Raw) -> bool:
    try:
        decoder_spec(raw)
    except ModelError:
        return True
    return False


@pytest.mark.parametrize(("family", "key"), CASES)
def test_a_missing_key_is_named(family: str, key: str) -> None:
    for absent in (without(CONFIGS[family], key), CONFIGS[family] | {key: None}):
        with pytest.raises(ModelError, match=OTHERWISE.get(key, key)):
            decoder_spec(absent)


@pytest.mark.parametrize(("family", "key"), CASES)
def test_a_value_of_the_wrong_kind_is_refused(family: str, key: str) -> None:
    wrong = ["x", [], {}, [None], -1, float("inf"), float("nan")]
    for value in wrong if key in MAY_BE_ZERO else [*wrong, 0]:
        with pytest.raises(ModelError):
            decoder_spec(CONFIGS[family] | {key: value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn) -> Raw:
    """A config with one or two values replaced by others, within its tables as well."""
    raw: Raw = dict(CONFIGS[draw(st.sampled_from(sorted(CONFIGS)))])
    for key in draw(st.lists(st.sampled_from(sorted(raw)), min_size=1, max_size=2)):
        inner = raw[key]
        if isinstance(inner, dict) and inner and draw(st.booleans()):
            raw[key] = inner | {draw(st.sampled_from(sorted(inner))): draw(JSON)}
        else:
            raw[key] = draw(JSON)
    return raw


@settings(max_examples=400)
@given(damaged())
def test_whatever_a_config_says_it_is_read_or_refused(raw: Raw) -> None:
    try:
        spec = decoder_spec(raw)
    except ModelError:
        return
    assert isinstance(spec, DecoderSpec)
    assert shape_of(spec, "bfloat16").largest_row_bytes > 0


@pytest.mark.parametrize("family", sorted(set(CONFIGS) - {"kimi_linear"}))
@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic", "llama3"])
def test_rotary_scaling_is_refused_by_name(family: str, kind: str) -> None:
    raw = CONFIGS[family]
    changes: list[Raw] = [{"rope_scaling": {"type": kind, "factor": 4}}, {"rope_scaling": {"rope_type": kind}}]
    if "rope_parameters" in raw:
        changes = [{"rope_parameters": raw["rope_parameters"] | {"rope_type": kind}}]
    for change in changes:
        with pytest.raises(UnsupportedModelError, match=f"rotary scaling '{kind}'"):
            decoder_spec(raw | change)


def test_rotary_scaling_of_one_kind_of_layers_is_refused() -> None:
    default = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.334}
    rope = {"full_attention": default | {"rope_type": "yarn"}, "sliding_attention": default}
    with pytest.raises(UnsupportedModelError, match="'yarn'"):
        decoder_spec(CONFIGS["mimo_v2_flash"] | {"rope_parameters": rope})


def test_the_default_rotary_embedding_may_be_spelled_out() -> None:
    for spelled in ({"rope_type": "default"}, {"type": "default"}, {}, None):
        assert decoder_spec(CONFIGS["qwen3"] | {"rope_scaling": spelled}) == decoder_spec(CONFIGS["qwen3"])


VARIANTS: dict[str, Raw] = {
    "kimi_linear": {
        "q_lora_rank": 512,
        "mla_use_nope": False,
        "moe_router_activation_func": "softmax",
        "moe_layer_freq": 2,
        "attention_bias": True,
        "hidden_act": "gelu",
    },
    "mimo_v2_flash": {
        "hidden_act": "gelu",
        "attention_bias": True,
        "scoring_func": "softmax",
        "topk_method": "greedy",
        "n_shared_experts": 1,
        "add_swa_attention_sink_bias": False,
        "add_full_attention_sink_bias": True,
    },
    "minimax": {"hidden_act": "gelu", "sliding_window": 4096},
    "minimax_m2": {
        "hidden_act": "gelu",
        "use_qk_norm": False,
        "qk_norm_type": "per_head",
        "use_routing_bias": False,
        "scoring_func": "softmax",
        "shared_intermediate_size": 1024,
    },
    "qwen3": {"hidden_act": "gelu", "attention_bias": True, "use_sliding_window": True},
    "qwen3_5": {"hidden_act": "gelu", "attention_bias": True, "attn_output_gate": False},
    "qwen3_5_moe": {"hidden_act": "gelu", "attention_bias": True, "attn_output_gate": False},
    "qwen3_moe": {"hidden_act": "gelu", "attention_bias": True, "use_sliding_window": True},
    "qwen3_next": {"hidden_act": "gelu", "attention_bias": True},
    "ring": {
        "hidden_act": "gelu",
        "use_bias": True,
        "use_qkv_bias": True,
        "attention_bias": True,
        "norm_head": True,
        "score_function": "softmax",
        "moe_router_enable_expert_bias": False,
        "linear_silu": True,
        "use_linear_silu": True,
        "linear_rope": False,
    },
}


@pytest.mark.parametrize(
    ("family", "key", "value"), [(family, key, value) for family, of in VARIANTS.items() for key, value in of.items()]
)
def test_variants_that_would_give_wrong_logits_are_refused(family: str, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{family} with {key} = "):
        decoder_spec(CONFIGS[family] | {key: value})


@pytest.mark.parametrize(
    ("family", "change", "fault"),
    [
        ("kimi_linear", {"num_experts_per_token": 300}, "300 of 256 experts"),
        ("kimi_linear", {"num_expert_group": 7}, "of 7 groups"),
        ("kimi_linear", {"num_expert_group": 8, "topk_group": 9}, "9 of 8 groups"),
        ("kimi_linear", {"num_expert_group": 128, "topk_group": 1}, "cannot be chosen"),
        ("kimi_linear", {"mlp_layer_types": ["sparse"]}, "1 entries for 27 layers"),
        ("qwen3", {"num_key_value_heads": 7}, "64 query heads cannot be shared out to 7 key heads"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 94}, "sliding_attention"),
        ("qwen3", {"head_dim": 13}, "13 of a head's 13 channels cannot be rotated"),
        ("qwen3_next", {"linear_num_value_heads": 24}, "24 value heads cannot be shared out to 16 key heads"),
        ("qwen3_next", {"linear_conv_kernel_dim": 1}, "1 taps"),
        ("minimax_m2", {"rotary_dim": 256}, "256 of a head's 128 channels cannot be rotated"),
        ("mimo_v2_flash", {"sliding_window_size": 0}, "window"),
        ("mimo_v2_flash", {"sliding_window_size": None, "sliding_window": 1}, "window"),
        ("ring", {"group_norm_size": 3}, "8192 channels cannot be shared out to 3 norm groups"),
        ("ring", {"qk_rope_head_dim": 7}, "cannot be rotated"),
        ("minimax", {"layer_types": ["linear_attention"] * 7}, "7 entries for 8 layers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(family: str, change: Raw, fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        decoder_spec(CONFIGS[family] | change)


def test_an_unknown_architecture_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedModelError, match="'llama' is not implemented; known: kimi_linear, mimo_v2_flash"):
        decoder_spec({"model_type": "llama"})


def test_other_generations_of_bailing_are_not_taken_for_ring() -> None:
    with pytest.raises(UnsupportedModelError, match="'bailing_hybrid' is not implemented"):
        decoder_spec(CONFIGS["ring"] | {"architectures": ["BailingMoeV3ForCausalLM"]})


def test_a_multimodal_config_is_read_by_its_text_part() -> None:
    whole = PUBLISHED["Qwen3.5-397B-A17B"]
    assert decoder_spec(whole) == decoder_spec(whole["text_config"])
    assert decoder_spec(whole | {"tie_word_embeddings": True}).tie_embeddings

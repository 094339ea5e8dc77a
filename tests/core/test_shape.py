"""Cache sizes in closed form against the published model's numbers."""

import pytest

from prfaas.core.errors import ModelError, UnsupportedModelError
from prfaas.core.shape import model_shape

KIMI_48B = {
    "model_type": "kimi_linear",
    "vocab_size": 163840,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_experts": 256,
    "num_experts_per_token": 8,
    "num_shared_experts": 1,
    "model_max_length": 1048576,
    "rms_norm_eps": 1e-5,
    "linear_attn_config": {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
        "kda_layers": [n for n in range(1, 28) if n not in (4, 8, 12, 16, 20, 24, 27)],
        "head_dim": 128,
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
}


def test_kimi_linear_48b_has_the_published_bytes() -> None:
    shape = model_shape(KIMI_48B, "bfloat16")
    assert shape.kv_bytes_per_token == 8_064
    states = sum(shape.layers[i].tensors[0].num_bytes for i in shape.state_layers)
    convs = sum(shape.layers[i].tensors[1].num_bytes for i in shape.state_layers)
    assert states / 1e6 == pytest.approx(41.9, abs=0.1)
    assert convs / 1e6 == pytest.approx(1.5, abs=0.1)
    assert shape.cache_bytes(1000) == 8_064_000 + states + convs
    assert shape.paged_layers == (3, 7, 11, 15, 19, 23, 26)


def test_rows_make_up_every_tensor() -> None:
    shape = model_shape(KIMI_48B, "bfloat16")
    for layer in shape.layers:
        for i, tensor in enumerate(layer.tensors):
            whole = tensor.num_bytes * (100 if layer.paged else 1)
            assert layer.num_rows(i, 100) * layer.row_bytes(i) == whole


def test_unknown_architecture_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="'llama' is not implemented; known: kimi_linear"):
        model_shape({"model_type": "llama"}, "float32")


def test_missing_key_is_named() -> None:
    without = {k: v for k, v in KIMI_48B.items() if k != "kv_lora_rank"}
    with pytest.raises(ModelError, match="kv_lora_rank"):
        model_shape(without, "float32")


@pytest.mark.parametrize(
    "change",
    [
        {"num_experts_per_token": 300},
        {"num_expert_group": 7},
        {"num_expert_group": 8, "topk_group": 9},
        {"num_expert_group": 128, "topk_group": 1},
        {"mlp_layer_types": ["sparse"]},
        {"num_hidden_layers": "many"},
    ],
)
def test_configs_that_cannot_be_computed_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        model_shape(KIMI_48B | change, "float32")


@pytest.mark.parametrize("key", ["q_lora_rank", "mla_use_nope", "moe_router_activation_func", "quantization_config"])
def test_variants_that_would_give_wrong_logits_are_refused(key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        model_shape(KIMI_48B | {key: "something else"}, "float32")

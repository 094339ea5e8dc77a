"""A valid `config.json` of every family; those that the planner knows hold the keys of published models that matter."""

import json
from typing import Any

from prfaas.planner.published_models import PUBLISHED_CONFIGS

Raw = dict[str, Any]

PUBLISHED: dict[str, Raw] = {
    file.stem: json.loads(file.read_text()) for file in sorted(PUBLISHED_CONFIGS.glob("*.json"))
}


def without(raw: Raw, *keys: str) -> Raw:
    return {key: value for key, value in raw.items() if key not in keys}


_SPARSE_ONLY = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size")

CONFIGS: dict[str, Raw] = {
    "kimi_linear": PUBLISHED["Kimi-Linear-48B-A3B"],
    "mimo_v2_flash": PUBLISHED["MiMo-V2-Flash"],
    "minimax": {
        "model_type": "minimax",
        "vocab_size": 200064,
        "hidden_size": 6144,
        "num_hidden_layers": 8,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 9216,
        "num_local_experts": 32,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 10240000,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.5},
        "layer_types": [*["linear_attention"] * 7, "full_attention"],
        "full_attn_alpha_factor": 3.5565588200778455,
        "linear_attn_alpha_factor": 3.5565588200778455,
        "mlp_alpha_factor": 3.5565588200778455,
    },
    "minimax_m2": PUBLISHED["MiniMax-M2.5"],
    "qwen3": {**without(PUBLISHED["Qwen3-235B-A22B"], *_SPARSE_ONLY), "model_type": "qwen3"},
    "qwen3_5": {
        **without(PUBLISHED["Qwen3.5-397B-A17B"]["text_config"], *_SPARSE_ONLY),
        "model_type": "qwen3_5_text",
        "intermediate_size": 12288,
    },
    "qwen3_5_moe": PUBLISHED["Qwen3.5-397B-A17B"]["text_config"],
    "qwen3_moe": PUBLISHED["Qwen3-235B-A22B"],
    "qwen3_next": PUBLISHED["Qwen3-Next-80B-A3B"],
    "ring": PUBLISHED["Ring-2.5-1T"],
}

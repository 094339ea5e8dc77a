"""Qwen3, dense and sparse: grouped-query attention in every layer."""

from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Dense, Experts, Gqa, LayerSpec, Mlp
from prfaas.core.families.fields import Raw, checked, count, eos_ids, first, only, per_layer, rotary

_ONLY: dict[str, Any] = {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False}


def qwen3(raw: Raw) -> DecoderSpec:
    """`qwen3` and `qwen3_moe`."""
    family = str(raw.get("model_type"))
    only(raw, family, _ONLY)
    num_layers = count(raw, "num_hidden_layers")
    if raw.get("layer_types") is not None:
        per_layer(raw, "layer_types", num_layers, ("full_attention",))
    gqa = _gqa(raw)
    return DecoderSpec(
        model_type=family,
        vocab_size=int(first(raw, "vocab_size")),
        hidden_size=int(first(raw, "hidden_size")),
        max_context_tokens=int(first(raw, "max_position_embeddings")),
        norm_eps=float(first(raw, "rms_norm_eps")),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(raw),
        layers=tuple(LayerSpec(gqa, _mlp(raw, i)) for i in range(num_layers)),
    )


def _gqa(raw: Raw) -> Gqa:
    num_heads = int(first(raw, "num_attention_heads"))
    head_dim = int(raw.get("head_dim") or int(first(raw, "hidden_size")) // num_heads)
    return Gqa(
        num_heads=num_heads,
        num_kv_heads=int(first(raw, "num_key_value_heads")),
        k_dim=head_dim,
        v_dim=head_dim,
        rotary=rotary(raw, head_dim),
        norm="head",
    )


def _mlp(raw: Raw, layer: int) -> Mlp:
    sparse = bool(raw.get("num_experts") or raw.get("num_local_experts")) and layer not in (
        raw.get("mlp_only_layers") or ()
    )
    if not sparse or (layer + 1) % int(raw.get("decoder_sparse_step", 1)):
        return Dense(int(first(raw, "intermediate_size")))
    return checked(
        Experts(
            num_experts=int(first(raw, "num_experts", "num_local_experts")),
            per_token=int(first(raw, "num_experts_per_tok")),
            inner=int(first(raw, "moe_intermediate_size")),
            score="softmax",
            renormalize=bool(raw.get("norm_topk_prob", False)),
        )
    )

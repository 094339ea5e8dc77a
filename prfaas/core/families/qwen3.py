"""Qwen3, dense and sparse: grouped-query attention in every layer."""

from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Gqa, LayerSpec
from prfaas.core.families.fields import Raw, count, eos_ids, first, only, per_layer, rotary
from prfaas.core.families.qwen_mlp import qwen_mlp

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
        layers=tuple(LayerSpec(gqa, qwen_mlp(raw, i, renormalize=False)) for i in range(num_layers)),
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

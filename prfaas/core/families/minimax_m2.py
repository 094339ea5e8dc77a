"""MiniMax-M2: grouped-query attention with a norm over all heads, sigmoid-routed experts in every layer."""

from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Experts, Gqa, LayerSpec, Rotary
from prfaas.core.families.fields import Raw, checked, count, eos_ids, first, only, rotary

_ONLY: dict[str, Any] = {
    "hidden_act": "silu",
    "use_qk_norm": True,
    "qk_norm_type": "per_layer",
    "use_routing_bias": True,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
}


def minimax_m2(raw: Raw) -> DecoderSpec:
    """Reads the published spelling of the config, and that of transformers."""
    only(raw, "minimax_m2", _ONLY)
    layer = LayerSpec(_gqa(raw), _experts(raw))
    return DecoderSpec(
        model_type="minimax_m2",
        vocab_size=int(first(raw, "vocab_size")),
        hidden_size=int(first(raw, "hidden_size")),
        max_context_tokens=int(first(raw, "max_position_embeddings")),
        norm_eps=float(first(raw, "rms_norm_eps")),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(raw),
        layers=(layer,) * count(raw, "num_hidden_layers"),
    )


def _gqa(raw: Raw) -> Gqa:
    head_dim = int(first(raw, "head_dim"))
    rotated = rotary(raw, head_dim)
    dims = int(raw.get("rotary_dim") or rotated.dims)
    return Gqa(
        num_heads=int(first(raw, "num_attention_heads")),
        num_kv_heads=int(first(raw, "num_key_value_heads")),
        k_dim=head_dim,
        v_dim=head_dim,
        rotary=Rotary(dims, rotated.theta),
        norm="all",
    )


def _experts(raw: Raw) -> Experts:
    return checked(
        Experts(
            num_experts=int(first(raw, "num_local_experts")),
            per_token=int(first(raw, "num_experts_per_tok")),
            inner=int(first(raw, "intermediate_size")),
            score="sigmoid",
            bias=True,
        )
    )

"""Kimi Linear (arXiv 2510.26692): KDA among MLA without rotary embedding, mixtures of experts."""

from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Dense, Experts, Kda, LayerSpec, Mla
from prfaas.core.families.fields import Raw, checked, count, eos_ids, first, only, per_layer

_ONLY: dict[str, Any] = {
    "q_lora_rank": None,
    "hidden_act": "silu",
    "mla_use_nope": True,
    "moe_router_activation_func": "sigmoid",
    "moe_layer_freq": 1,
    "attention_bias": False,
}
"""What the published models say; another value would give wrong logits."""


def kimi_linear(raw: Raw) -> DecoderSpec:
    """Reads the published spelling of the config, and that of transformers."""
    only(raw, "kimi_linear", _ONLY)
    num_layers = count(raw, "num_hidden_layers")
    full, sparse = _full_attention(raw, num_layers), _sparse(raw, num_layers)
    mla, kda = _mla(raw), _kda(raw)
    dense = Dense(int(first(raw, "intermediate_size")))
    experts = _experts(raw) if any(sparse) else dense
    return DecoderSpec(
        model_type="kimi_linear",
        vocab_size=int(first(raw, "vocab_size")),
        hidden_size=int(first(raw, "hidden_size")),
        max_context_tokens=int(first(raw, "model_max_length", "max_position_embeddings")),
        norm_eps=float(first(raw, "rms_norm_eps")),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(raw),
        layers=tuple(LayerSpec(mla if full[i] else kda, experts if sparse[i] else dense) for i in range(num_layers)),
    )


def _full_attention(raw: Raw, num_layers: int) -> list[bool]:
    """Published checkpoints list 1-based layer numbers, converted ones a kind per layer."""
    linear = raw.get("linear_attn_config") or {}
    if "full_attn_layers" in linear:
        full = {int(n) - 1 for n in linear["full_attn_layers"]}
        return [i in full for i in range(num_layers)]
    kinds = per_layer(raw, "layer_types", num_layers, ("full_attention", "linear_attention"))
    return [kind == "full_attention" for kind in kinds]


def _sparse(raw: Raw, num_layers: int) -> list[bool]:
    if raw.get("mlp_layer_types") is not None:
        kinds = per_layer(raw, "mlp_layer_types", num_layers, ("sparse", "dense"))
        return [kind == "sparse" for kind in kinds]
    if raw.get("num_experts") is None and raw.get("num_local_experts") is None:
        return [False] * num_layers
    dense_first = int(raw.get("first_k_dense_replace", 1))
    return [i >= dense_first for i in range(num_layers)]


def _mla(raw: Raw) -> Mla:
    return Mla(
        num_heads=int(first(raw, "num_attention_heads")),
        rank=int(first(raw, "kv_lora_rank")),
        nope_dim=int(first(raw, "qk_nope_head_dim")),
        rope_dim=int(first(raw, "qk_rope_head_dim")),
        v_dim=int(first(raw, "v_head_dim")),
        # The published model leaves this norm at its class's default, whatever rms_norm_eps says.
        norm_eps=1e-6,
    )


def _kda(raw: Raw) -> Kda:
    linear = raw.get("linear_attn_config") or {}
    return Kda(
        num_heads=int(linear.get("num_heads") or first(raw, "linear_num_heads")),
        head_dim=int(linear.get("head_dim") or first(raw, "linear_head_dim")),
        conv_kernel=int(linear.get("short_conv_kernel_size") or first(raw, "linear_conv_kernel_dim")),
    )


def _experts(raw: Raw) -> Experts:
    inner = int(first(raw, "moe_intermediate_size"))
    return checked(
        Experts(
            num_experts=int(first(raw, "num_experts", "num_local_experts")),
            per_token=int(first(raw, "num_experts_per_token", "num_experts_per_tok")),
            inner=inner,
            score="sigmoid",
            bias=True,
            num_groups=int(raw.get("num_expert_group") or raw.get("n_group") or 1),
            groups_per_token=int(raw.get("topk_group") or 1),
            renormalize=bool(raw.get("moe_renormalize", raw.get("norm_topk_prob", True))),
            scaling=float(raw.get("routed_scaling_factor", 1.0)),
            shared_inner=inner * int(first(raw, "num_shared_experts", "n_shared_experts")),
        )
    )

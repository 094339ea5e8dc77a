"""MiMo-V2-Flash: sliding-window attention with sinks among full attention, keys wider than values."""

from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Dense, Experts, Gqa, LayerSpec, Rotary
from prfaas.core.errors import UnsupportedModelError
from prfaas.core.families.fields import Raw, checked, count, eos_ids, first, only, per_layer, rotary

_ONLY: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_shared_experts": None,
    "add_swa_attention_sink_bias": True,
    "add_full_attention_sink_bias": False,
}
_ROTARY_FRACTION = 0.334  # where a config names none


def mimo_v2_flash(raw: Raw) -> DecoderSpec:
    """Reads the published spelling of the config, and that of transformers."""
    only(raw, "mimo_v2_flash", _ONLY)
    num_layers = count(raw, "num_hidden_layers")
    windowed, sparse = _windowed(raw, num_layers), _sparse(raw, num_layers)
    full, window = _full(raw), _window(raw)
    dense, experts = Dense(int(first(raw, "intermediate_size"))), _experts(raw)
    return DecoderSpec(
        model_type="mimo_v2_flash",
        vocab_size=int(first(raw, "vocab_size")),
        hidden_size=int(first(raw, "hidden_size")),
        max_context_tokens=int(first(raw, "max_position_embeddings")),
        norm_eps=float(first(raw, "layernorm_epsilon", "rms_norm_eps")),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(raw),
        layers=tuple(
            LayerSpec(window if windowed[i] else full, experts if sparse[i] else dense) for i in range(num_layers)
        ),
    )


def _windowed(raw: Raw, num_layers: int) -> list[bool]:
    if raw.get("hybrid_layer_pattern") is not None:
        return [kind == 1 for kind in per_layer(raw, "hybrid_layer_pattern", num_layers, (0, 1))]
    kinds = per_layer(raw, "layer_types", num_layers, ("full_attention", "sliding_attention"))
    return [kind == "sliding_attention" for kind in kinds]


def _sparse(raw: Raw, num_layers: int) -> list[bool]:
    if raw.get("moe_layer_freq") is not None:
        return [kind == 1 for kind in per_layer(raw, "moe_layer_freq", num_layers, (0, 1))]
    return [kind == "sparse" for kind in per_layer(raw, "mlp_layer_types", num_layers, ("dense", "sparse"))]


def _full(raw: Raw) -> Gqa:
    k_dim = int(first(raw, "head_dim"))
    return Gqa(
        num_heads=int(first(raw, "num_attention_heads")),
        num_kv_heads=int(first(raw, "num_key_value_heads")),
        k_dim=k_dim,
        v_dim=int(first(raw, "v_head_dim")),
        rotary=_rotary(raw, "full_attention", "rope_theta", k_dim),
        value_scale=_value_scale(raw),
    )


def _window(raw: Raw) -> Gqa:
    k_dim = int(raw.get("swa_head_dim") or first(raw, "head_dim"))
    return Gqa(
        num_heads=int(raw.get("swa_num_attention_heads") or first(raw, "num_attention_heads")),
        # transformers drops the key: there, these layers always have twice the heads of the others.
        num_kv_heads=int(raw.get("swa_num_key_value_heads") or 2 * int(first(raw, "num_key_value_heads"))),
        k_dim=k_dim,
        v_dim=int(raw.get("swa_v_head_dim") or first(raw, "v_head_dim")),
        rotary=_rotary(raw, "sliding_attention", "swa_rope_theta", k_dim),
        window=_window_tokens(raw),
        sinks=True,
        value_scale=_value_scale(raw),
    )


def _window_tokens(raw: Raw) -> int:
    """`sliding_window_size` counts the tokens before the query, `sliding_window` of transformers the query too."""
    if raw.get("sliding_window_size") is not None:
        return int(raw["sliding_window_size"]) + 1
    tokens = int(first(raw, "sliding_window"))
    if tokens < 2:
        raise UnsupportedModelError(f"mimo_v2_flash with sliding_window = {tokens} is not implemented; 2 is the least")
    return tokens


def _value_scale(raw: Raw) -> float:
    scale = raw.get("attention_value_scale")
    return 1.0 if scale is None else float(scale)


def _rotary(raw: Raw, kind: str, theta_key: str, k_dim: int) -> Rotary:
    per_kind = (raw.get("rope_parameters") or {}).get(kind)
    if per_kind is not None:
        return rotary({"rope_parameters": per_kind}, k_dim, default_fraction=_ROTARY_FRACTION)
    published = {key: raw.get(key) for key in ("rope_scaling", "partial_rotary_factor")}
    return rotary({**published, "rope_theta": first(raw, theta_key)}, k_dim, default_fraction=_ROTARY_FRACTION)


def _experts(raw: Raw) -> Experts:
    return checked(
        Experts(
            num_experts=int(first(raw, "n_routed_experts", "num_local_experts")),
            per_token=int(first(raw, "num_experts_per_tok")),
            inner=int(first(raw, "moe_intermediate_size")),
            score="sigmoid",
            bias=True,
            num_groups=int(raw.get("n_group") or 1),
            groups_per_token=int(raw.get("topk_group") or 1),
            renormalize=bool(raw.get("norm_topk_prob", True)),
            scaling=float(raw.get("routed_scaling_factor") or 1.0),
        )
    )

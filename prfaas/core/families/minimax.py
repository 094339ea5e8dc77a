"""MiniMax-01: lightning attention among grouped-query attention, a scaled post-norm residual, softmax experts."""

from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Experts, Gqa, LayerSpec, Lightning, PostNorm
from prfaas.core.families.fields import Raw, checked, count, eos_ids, first, only, per_layer, rotary

_ONLY: dict[str, Any] = {"hidden_act": "silu", "sliding_window": None}
_LIGHTNING_NORM_EPS = 1e-6  # this norm keeps its class's default, whatever rms_norm_eps says
_DECAY_FACTOR_OFFSET = 1e-5


def minimax(raw: Raw) -> DecoderSpec:
    """Reads the config as transformers writes it."""
    only(raw, "minimax", _ONLY)
    num_layers = count(raw, "num_hidden_layers")
    kinds = per_layer(raw, "layer_types", num_layers, ("full_attention", "linear_attention"))
    gqa, experts = _gqa(raw), _experts(raw)
    return DecoderSpec(
        model_type="minimax",
        vocab_size=int(first(raw, "vocab_size")),
        hidden_size=int(first(raw, "hidden_size")),
        max_context_tokens=int(first(raw, "max_position_embeddings")),
        norm_eps=float(first(raw, "rms_norm_eps")),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(raw),
        layers=tuple(
            LayerSpec(
                gqa if kind == "full_attention" else _lightning(raw, i, num_layers),
                experts,
                mixer_residual=_residual(raw, "full_attn" if kind == "full_attention" else "linear_attn"),
                mlp_residual=_residual(raw, "mlp"),
            )
            for i, kind in enumerate(kinds)
        ),
    )


def _residual(raw: Raw, part: str) -> PostNorm:
    return PostNorm(float(raw.get(f"{part}_alpha_factor", 1)), float(raw.get(f"{part}_beta_factor", 1)))


def _head_dim(raw: Raw) -> int:
    return int(raw.get("head_dim") or int(first(raw, "hidden_size")) // int(first(raw, "num_attention_heads")))


def _gqa(raw: Raw) -> Gqa:
    head_dim = _head_dim(raw)
    return Gqa(
        num_heads=int(first(raw, "num_attention_heads")),
        num_kv_heads=int(first(raw, "num_key_value_heads")),
        k_dim=head_dim,
        v_dim=head_dim,
        rotary=rotary(raw, head_dim),
    )


def _lightning(raw: Raw, layer: int, num_layers: int) -> Lightning:
    heads = count(raw, "num_attention_heads")
    factor = 1 - layer / (num_layers - 1 + _DECAY_FACTOR_OFFSET) + _DECAY_FACTOR_OFFSET
    return Lightning(
        num_heads=heads,
        head_dim=_head_dim(raw),
        log_decay=tuple(-factor * 2 ** (-8 * (head + 1) / heads) for head in range(heads)),
        scale=1.0,
        norm_groups=1,
        norm_eps=_LIGHTNING_NORM_EPS,
        silu=True,
    )


def _experts(raw: Raw) -> Experts:
    return checked(
        Experts(
            num_experts=int(first(raw, "num_local_experts", "num_experts")),
            per_token=int(first(raw, "num_experts_per_tok")),
            inner=int(first(raw, "intermediate_size")),
            score="softmax",
        )
    )

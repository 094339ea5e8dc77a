"""Ring-2.5 and Ling-2.5 (`BailingMoeV2_5`): lightning attention with rotary embedding among MLA, grouped experts."""

import math
from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Dense, Experts, LayerSpec, Lightning, Mla
from prfaas.core.errors import ModelError
from prfaas.core.families.fields import Raw, checked, count, eos_ids, first, only, rotary

_ONLY: dict[str, Any] = {
    "hidden_act": "silu",
    "use_bias": False,
    "use_qkv_bias": False,
    "attention_bias": False,
    "norm_head": False,
    "score_function": "sigmoid",
    "moe_router_enable_expert_bias": True,
    "linear_silu": False,
    "use_linear_silu": False,
    "linear_rope": True,
}
_LINEAR_ROTARY_FRACTION = 0.5  # of lightning layers, where a config names none


def ring(raw: Raw) -> DecoderSpec:
    """Every `layer_group_size`-th layer, and those that fill no group, are MLA; the others lightning attention."""
    only(raw, "ring", _ONLY)
    num_layers = count(raw, "num_hidden_layers")
    group = int(first(raw, "layer_group_size"))
    if group < 1:
        raise ModelError(f"config.json: layer_group_size is {group}")
    whole = num_layers // group * group
    dense_first = int(raw.get("first_k_dense_replace") or 0)
    mla, dense, experts = _mla(raw), Dense(int(first(raw, "intermediate_size"))), _experts(raw)
    return DecoderSpec(
        model_type="ring",
        vocab_size=int(first(raw, "vocab_size")),
        hidden_size=int(first(raw, "hidden_size")),
        max_context_tokens=int(first(raw, "max_position_embeddings", "model_max_length")),
        norm_eps=float(first(raw, "rms_norm_eps")),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(raw),
        layers=tuple(
            LayerSpec(
                mla if (i + 1) % group == 0 or i >= whole else _lightning(raw, i, num_layers),
                dense if i < dense_first else experts,
            )
            for i in range(num_layers)
        ),
    )


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """One slope per head (ALiBi, arXiv 2108.12409, s3): powers of two, with those of 2n between where n is short."""
    if math.log2(heads).is_integer():
        return tuple(2.0 ** (-8 * (head + 1) / heads) for head in range(heads))
    closest = 2 ** math.floor(math.log2(heads))
    return alibi_slopes(closest) + alibi_slopes(2 * closest)[0::2][: heads - closest]


def _mla(raw: Raw) -> Mla:
    rope_dim = int(first(raw, "qk_rope_head_dim"))
    whole_head = {**raw, "partial_rotary_factor": 1.0}
    if raw.get("rope_parameters"):
        whole_head["rope_parameters"] = {**raw["rope_parameters"], "partial_rotary_factor": 1.0}
    return Mla(
        num_heads=int(first(raw, "num_attention_heads")),
        rank=int(first(raw, "kv_lora_rank")),
        nope_dim=int(first(raw, "qk_nope_head_dim")),
        rope_dim=rope_dim,
        v_dim=int(first(raw, "v_head_dim")),
        q_rank=raw.get("q_lora_rank"),
        rotary=rotary(whole_head, rope_dim, interleaved=bool(raw.get("rope_interleave", True))),
        norm_eps=float(first(raw, "rms_norm_eps")),
    )


def _lightning(raw: Raw, layer: int, num_layers: int) -> Lightning:
    heads = count(raw, "num_attention_heads")
    head_dim = int(raw.get("head_dim") or int(first(raw, "hidden_size")) // heads)
    factor = 1 - (layer - 1) / (num_layers - 1) + 1e-5
    return Lightning(
        num_heads=heads,
        head_dim=head_dim,
        log_decay=tuple(-factor * slope for slope in alibi_slopes(heads)),
        scale=head_dim**-0.5,
        norm_groups=int(raw.get("group_norm_size") or 1),
        norm_eps=float(first(raw, "rms_norm_eps")),
        rotary=rotary(raw, head_dim, default_fraction=_LINEAR_ROTARY_FRACTION),
        qk_norm=bool(raw.get("use_qk_norm", True)),
    )


def _experts(raw: Raw) -> Experts:
    inner = int(first(raw, "moe_intermediate_size"))
    shared = int(raw.get("moe_shared_expert_intermediate_size") or inner)
    return checked(
        Experts(
            num_experts=int(first(raw, "num_experts")),
            per_token=int(first(raw, "num_experts_per_tok")),
            inner=inner,
            score="sigmoid",
            bias=True,
            num_groups=int(raw.get("n_group") or 1),
            groups_per_token=int(raw.get("topk_group") or 1),
            renormalize=bool(raw.get("norm_topk_prob", True)),
            scaling=float(raw.get("routed_scaling_factor") or 1.0),
            shared_inner=shared * int(raw.get("num_shared_experts") or 0),
        )
    )

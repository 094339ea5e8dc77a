"""Qwen3-Next and Qwen3.5, dense and sparse: Gated DeltaNet among gated grouped-query attention."""

from dataclasses import replace
from typing import Any

from prfaas.core.decoder_spec import DecoderSpec, Experts, Gdn, Gqa, LayerSpec, Mlp
from prfaas.core.families.fields import Raw, count, eos_ids, first, only, per_layer, rotary
from prfaas.core.families.qwen_mlp import qwen_mlp

_ONLY: dict[str, Any] = {"hidden_act": "silu", "attention_bias": False, "attn_output_gate": True}
_ROTARY_FRACTION = 0.25  # where a config names none


def qwen3_next(raw: Raw) -> DecoderSpec:
    """Also the text part of a multimodal config, whose settings are in `text_config`."""
    family = str(raw.get("model_type")).removesuffix("_text")
    text = {**raw["text_config"], "tie_word_embeddings": _tied(raw)} if raw.get("text_config") else raw
    only(text, family, _ONLY)
    num_layers = count(text, "num_hidden_layers")
    gqa, gdn = _gqa(text), _gdn(text)
    return DecoderSpec(
        model_type=family,
        vocab_size=int(first(text, "vocab_size")),
        hidden_size=int(first(text, "hidden_size")),
        max_context_tokens=int(first(text, "max_position_embeddings")),
        norm_eps=float(first(text, "rms_norm_eps")),
        tie_embeddings=bool(text.get("tie_word_embeddings", False)),
        eos_token_ids=eos_ids(text),
        layers=tuple(
            LayerSpec(gqa if full else gdn, _mlp(text, i)) for i, full in enumerate(_full_attention(text, num_layers))
        ),
        norm_offset=1.0,
    )


def _tied(raw: Raw) -> bool:
    return bool(raw.get("tie_word_embeddings", raw["text_config"].get("tie_word_embeddings", False)))


def _full_attention(raw: Raw, num_layers: int) -> list[bool]:
    if raw.get("layer_types") is None:
        interval = int(raw.get("full_attention_interval", 4))
        return [(i + 1) % interval == 0 for i in range(num_layers)]
    kinds = per_layer(raw, "layer_types", num_layers, ("full_attention", "linear_attention"))
    return [kind == "full_attention" for kind in kinds]


def _gqa(raw: Raw) -> Gqa:
    head_dim = int(first(raw, "head_dim"))
    return Gqa(
        num_heads=int(first(raw, "num_attention_heads")),
        num_kv_heads=int(first(raw, "num_key_value_heads")),
        k_dim=head_dim,
        v_dim=head_dim,
        rotary=rotary(raw, head_dim, default_fraction=_ROTARY_FRACTION),
        norm="head",
        gated=True,
    )


def _gdn(raw: Raw) -> Gdn:
    return Gdn(
        num_k_heads=int(first(raw, "linear_num_key_heads")),
        num_v_heads=int(first(raw, "linear_num_value_heads")),
        k_dim=int(first(raw, "linear_key_head_dim")),
        v_dim=int(first(raw, "linear_value_head_dim")),
        conv_kernel=int(first(raw, "linear_conv_kernel_dim")),
    )


def _mlp(raw: Raw, layer: int) -> Mlp:
    mlp = qwen_mlp(raw, layer, renormalize=True)
    if not isinstance(mlp, Experts):
        return mlp
    return replace(mlp, shared_inner=int(first(raw, "shared_expert_intermediate_size")), shared_gate=True)

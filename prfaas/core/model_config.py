"""What a Hugging Face `config.json` says, normalised: one frozen class per family, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prfaas.core.errors import ModelError, UnsupportedModelError

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MoeConfig:
    """Routed experts with a sigmoid router and group-limited choice, plus shared experts."""

    num_experts: int
    experts_per_token: int
    expert_intermediate_size: int
    num_shared_experts: int
    num_groups: int
    groups_per_token: int
    renormalize: bool
    scaling_factor: float


@dataclass(frozen=True, slots=True)
class KimiLinearConfig:
    """Kimi Linear: KDA layers (gated delta rule, per-channel decay) among MLA layers without rotary embedding."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    max_context_tokens: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    num_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    linear_num_heads: int
    linear_head_dim: int
    conv_kernel: int
    full_attention: tuple[bool, ...]
    """One entry per layer: True is MLA, False is KDA."""
    moe_layers: tuple[bool, ...]
    """One entry per layer: True is a mixture of experts, False a dense MLP."""
    moe: MoeConfig | None
    eos_token_ids: tuple[int, ...]

    @property
    def num_layers(self) -> int:
        return len(self.full_attention)


def _first(raw: Raw, *names: str) -> Any:
    for name in names:
        if raw.get(name) is not None:
            return raw[name]
    raise ModelError(f"config.json lacks {' (or '.join(names)}{')' * (len(names) - 1)}")


def _layer_kinds(raw: Raw, num_layers: int) -> tuple[bool, ...]:
    """Published checkpoints list 1-based layer numbers, converted ones a kind per layer."""
    linear = raw.get("linear_attn_config") or {}
    if "full_attn_layers" in linear:
        full = {int(n) - 1 for n in linear["full_attn_layers"]}
        return tuple(i in full for i in range(num_layers))
    kinds = _first(raw, "layer_types")
    unknown = set(kinds) - {"full_attention", "linear_attention"}
    if unknown or len(kinds) != num_layers:
        raise ModelError(
            f"config.json: layer_types has {len(kinds)} entries for {num_layers} layers, unknown: {unknown}"
        )
    return tuple(kind == "full_attention" for kind in kinds)


def _moe_layers(raw: Raw, num_layers: int) -> tuple[bool, ...]:
    if (kinds := raw.get("mlp_layer_types")) is not None:
        if len(kinds) != num_layers or set(kinds) - {"sparse", "dense"}:
            raise ModelError(f"config.json: mlp_layer_types has {len(kinds)} entries for {num_layers} layers: {kinds}")
        return tuple(kind == "sparse" for kind in kinds)
    if raw.get("num_experts") is None and raw.get("num_local_experts") is None:
        return (False,) * num_layers
    dense_first = int(raw.get("first_k_dense_replace", 1))
    return tuple(i >= dense_first for i in range(num_layers))


def _eos_ids(raw: Raw) -> tuple[int, ...]:
    eos = raw.get("eos_token_id")
    if eos is None:
        return ()
    return tuple(int(i) for i in eos) if isinstance(eos, list) else (int(eos),)


def _moe(raw: Raw) -> MoeConfig:
    moe = _read_moe(raw)
    reachable = moe.num_experts // max(1, moe.num_groups) * moe.groups_per_token
    whole = moe.num_groups > 0 and moe.num_experts % moe.num_groups == 0
    if not whole or not 1 <= moe.groups_per_token <= moe.num_groups or not 1 <= moe.experts_per_token <= reachable:
        raise ModelError(
            f"config.json: {moe.experts_per_token} of {moe.num_experts} experts from {moe.groups_per_token} of "
            f"{moe.num_groups} groups cannot be chosen"
        )
    return moe


def _read_moe(raw: Raw) -> MoeConfig:
    return MoeConfig(
        num_experts=int(_first(raw, "num_experts", "num_local_experts")),
        experts_per_token=int(_first(raw, "num_experts_per_token", "num_experts_per_tok")),
        expert_intermediate_size=int(_first(raw, "moe_intermediate_size")),
        num_shared_experts=int(_first(raw, "num_shared_experts", "n_shared_experts")),
        num_groups=int(raw.get("num_expert_group") or raw.get("n_group") or 1),
        groups_per_token=int(raw.get("topk_group") or 1),
        renormalize=bool(raw.get("moe_renormalize", raw.get("norm_topk_prob", True))),
        scaling_factor=float(raw.get("routed_scaling_factor", 1.0)),
    )


_KIMI_LINEAR_ONLY: dict[str, Any] = {
    "q_lora_rank": None,
    "hidden_act": "silu",
    "mla_use_nope": True,
    "moe_router_activation_func": "sigmoid",
    "moe_layer_freq": 1,
    "attention_bias": False,
    "quantization_config": None,
}
"""What the published models say, and the only thing implemented here; another value would give wrong logits."""


def kimi_linear(raw: Raw) -> KimiLinearConfig:
    """Reads a `kimi_linear` config in its published or its transformers spelling.

    Raises ModelError for a missing or malformed value, UnsupportedModelError for a variant that is not implemented.
    """
    for key, only in _KIMI_LINEAR_ONLY.items():
        if raw.get(key, only) != only:
            raise UnsupportedModelError(f"kimi_linear with {key} = {raw[key]!r} is not implemented, only {only!r}")
    try:
        return _kimi_linear(raw)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"config.json: a value is not of the kind it should be: {error}") from error


def _kimi_linear(raw: Raw) -> KimiLinearConfig:
    num_layers = int(_first(raw, "num_hidden_layers"))
    linear = raw.get("linear_attn_config") or {}
    moe_layers = _moe_layers(raw, num_layers)
    return KimiLinearConfig(
        vocab_size=int(_first(raw, "vocab_size")),
        hidden_size=int(_first(raw, "hidden_size")),
        intermediate_size=int(_first(raw, "intermediate_size")),
        max_context_tokens=int(_first(raw, "model_max_length", "max_position_embeddings")),
        rms_norm_eps=float(_first(raw, "rms_norm_eps")),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        num_heads=int(_first(raw, "num_attention_heads")),
        kv_lora_rank=int(_first(raw, "kv_lora_rank")),
        qk_nope_head_dim=int(_first(raw, "qk_nope_head_dim")),
        qk_rope_head_dim=int(_first(raw, "qk_rope_head_dim")),
        v_head_dim=int(_first(raw, "v_head_dim")),
        linear_num_heads=int(linear.get("num_heads") or _first(raw, "linear_num_heads")),
        linear_head_dim=int(linear.get("head_dim") or _first(raw, "linear_head_dim")),
        conv_kernel=int(linear.get("short_conv_kernel_size") or _first(raw, "linear_conv_kernel_dim")),
        full_attention=_layer_kinds(raw, num_layers),
        moe_layers=moe_layers,
        moe=_moe(raw) if any(moe_layers) else None,
        eos_token_ids=_eos_ids(raw),
    )

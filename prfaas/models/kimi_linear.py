"""Kimi Linear: its weights put into layers."""

import torch

from prfaas.core.model_config import KimiLinearConfig, MoeConfig
from prfaas.models.decoder import DecoderLayer, HybridDecoder
from prfaas.models.layers.kda import KdaLayer
from prfaas.models.layers.mla import MlaLayer
from prfaas.models.layers.mlp import Mlp
from prfaas.models.layers.moe import Moe
from prfaas.models.weights import Weights
from prfaas_kernels.moe import Routing

_LATENT_NORM_EPS = 1e-6  # the published model leaves this norm at its class's default, whatever rms_norm_eps says


def build_kimi_linear(config: KimiLinearConfig, weights: Weights) -> HybridDecoder:
    """Reads all weights, fusing projections that share their input."""
    embedding = weights["model.embed_tokens.weight"]
    return HybridDecoder(
        embedding=embedding,
        layers=tuple(_layer(config, weights, i) for i in range(config.num_layers)),
        final_norm=weights["model.norm.weight"],
        head=embedding if config.tie_word_embeddings else weights["lm_head.weight"],
        eps=config.rms_norm_eps,
    )


def _layer(config: KimiLinearConfig, weights: Weights, i: int) -> DecoderLayer:
    at = f"model.layers.{i}"
    mixer = (
        _mla(config, weights, f"{at}.self_attn")
        if config.full_attention[i]
        else _kda(config, weights, f"{at}.self_attn")
    )
    sparse = config.moe if config.moe_layers[i] else None
    return DecoderLayer(
        mixer_norm=weights[f"{at}.input_layernorm.weight"],
        mixer=mixer,
        mlp_norm=weights[f"{at}.post_attention_layernorm.weight"],
        mlp=_mlp(weights, f"{at}.mlp") if sparse is None else _moe(sparse, weights, f"{at}.block_sparse_moe"),
    )


def _kda(config: KimiLinearConfig, weights: Weights, at: str) -> KdaLayer:
    inputs = ("q_proj", "k_proj", "v_proj", "f_a_proj", "g_a_proj", "b_proj")
    taps = weights.fused(*(f"{at}.{part}_conv1d.weight" for part in "qkv"))  # [3HK, W]
    return KdaLayer(
        project_in=weights.fused(*(f"{at}.{name}.weight" for name in inputs)),
        conv=taps.T.contiguous(),
        decay_up=weights[f"{at}.f_b_proj.weight"],
        gate_up=weights[f"{at}.g_b_proj.weight"],
        a_log=weights[f"{at}.A_log"],
        dt_bias=weights[f"{at}.dt_bias"],
        out_norm=weights[f"{at}.o_norm.weight"],
        project_out=weights[f"{at}.o_proj.weight"],
        eps=config.rms_norm_eps,
    )


def _mla(config: KimiLinearConfig, weights: Weights, at: str) -> MlaLayer:
    return MlaLayer(
        project_in=weights.fused(f"{at}.q_proj.weight", f"{at}.kv_a_proj_with_mqa.weight"),
        latent_norm=weights[f"{at}.kv_a_layernorm.weight"],
        latent_norm_eps=_LATENT_NORM_EPS,
        kv_up=torch.unflatten(weights[f"{at}.kv_b_proj.weight"], 0, (config.num_heads, -1)),
        project_out=weights[f"{at}.o_proj.weight"],
        rope_dim=config.qk_rope_head_dim,
    )


def _mlp(weights: Weights, at: str) -> Mlp:
    return Mlp(weights.fused(f"{at}.gate_proj.weight", f"{at}.up_proj.weight"), weights[f"{at}.down_proj.weight"])


def _moe(moe: MoeConfig, weights: Weights, at: str) -> Moe:
    experts = [f"{at}.experts.{e}" for e in range(moe.num_experts)]
    return Moe(
        router=weights[f"{at}.gate.weight"],
        router_bias=weights[f"{at}.gate.e_score_correction_bias"],
        gate_up=torch.stack([weights.fused(f"{e}.w1.weight", f"{e}.w3.weight") for e in experts]),
        down=torch.stack([weights[f"{e}.w2.weight"] for e in experts]),
        shared=_mlp(weights, f"{at}.shared_experts") if moe.num_shared_experts else None,
        routing=Routing(
            top_k=moe.experts_per_token,
            num_groups=moe.num_groups,
            groups_per_token=moe.groups_per_token,
            renormalize=moe.renormalize,
            scaling=moe.scaling_factor,
        ),
    )

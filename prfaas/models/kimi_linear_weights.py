"""Kimi Linear's weight map: the published names are canonical, those of transformers' `save_pretrained` accepted."""

from collections.abc import Iterator

from prfaas.core.model_config import KimiLinearConfig, MoeConfig
from prfaas.models.weights import WeightSpec


def kimi_linear_weights(config: KimiLinearConfig) -> Iterator[WeightSpec]:
    """Every tensor of a checkpoint with this config."""
    table = (config.vocab_size, config.hidden_size)
    yield WeightSpec("model.embed_tokens.weight", table)
    yield WeightSpec("model.norm.weight", (config.hidden_size,))
    yield WeightSpec("lm_head.weight", table, unused=config.tie_word_embeddings)
    for i in range(config.num_layers):
        at = f"model.layers.{i}"
        yield WeightSpec(f"{at}.input_layernorm.weight", (config.hidden_size,))
        yield WeightSpec(f"{at}.post_attention_layernorm.weight", (config.hidden_size,))
        yield from (_mla if config.full_attention[i] else _kda)(config, f"{at}.self_attn")
        if config.moe is not None and config.moe_layers[i]:
            yield from _moe(config.moe, config.hidden_size, f"{at}.block_sparse_moe")
        else:
            also = f"{at}.block_sparse_moe"  # transformers gives dense layers the name of sparse ones
            yield from _mlp(config.hidden_size, config.intermediate_size, f"{at}.mlp", also)


def _kda(config: KimiLinearConfig, at: str) -> Iterator[WeightSpec]:
    heads, inner, hidden = config.linear_num_heads, config.linear_head_dim, config.hidden_size
    width = heads * inner
    for part in "qkv":
        yield WeightSpec(f"{at}.{part}_proj.weight", (width, hidden))
        taps = config.conv_kernel
        yield WeightSpec(f"{at}.{part}_conv1d.weight", (width, taps), stored_shapes=((width, 1, taps),))
    for gate in "fg":
        yield WeightSpec(f"{at}.{gate}_a_proj.weight", (inner, hidden))
        yield WeightSpec(f"{at}.{gate}_b_proj.weight", (width, inner))
    yield WeightSpec(f"{at}.A_log", (heads,), stored_shapes=((1, 1, heads, 1),), keep_fp32=True)
    yield WeightSpec(f"{at}.dt_bias", (width,), keep_fp32=True)
    yield WeightSpec(f"{at}.b_proj.weight", (heads, hidden))
    yield WeightSpec(f"{at}.o_norm.weight", (inner,))
    yield WeightSpec(f"{at}.o_proj.weight", (hidden, width))


def _mla(config: KimiLinearConfig, at: str) -> Iterator[WeightSpec]:
    heads, hidden, rank = config.num_heads, config.hidden_size, config.kv_lora_rank
    nope, rope, v = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    yield WeightSpec(f"{at}.q_proj.weight", (heads * (nope + rope), hidden))
    yield WeightSpec(f"{at}.kv_a_proj_with_mqa.weight", (rank + rope, hidden))
    yield WeightSpec(f"{at}.kv_a_layernorm.weight", (rank,))
    yield WeightSpec(f"{at}.kv_b_proj.weight", (heads * (nope + v), rank))
    yield WeightSpec(f"{at}.o_proj.weight", (hidden, heads * v))


def _mlp(hidden: int, inner: int, at: str, also: str) -> Iterator[WeightSpec]:
    for name, shape in (("gate_proj", (inner, hidden)), ("up_proj", (inner, hidden)), ("down_proj", (hidden, inner))):
        yield WeightSpec(f"{at}.{name}.weight", shape, spellings=(f"{also}.{name}.weight",))


def _moe(moe: MoeConfig, hidden: int, at: str) -> Iterator[WeightSpec]:
    inner = moe.expert_intermediate_size
    yield WeightSpec(f"{at}.gate.weight", (moe.num_experts, hidden), keep_fp32=True)
    yield WeightSpec(f"{at}.gate.e_score_correction_bias", (moe.num_experts,), keep_fp32=True)
    for e in range(moe.num_experts):
        yield WeightSpec(f"{at}.experts.{e}.w1.weight", (inner, hidden))
        yield WeightSpec(f"{at}.experts.{e}.w2.weight", (hidden, inner))
        yield WeightSpec(f"{at}.experts.{e}.w3.weight", (inner, hidden))
    if moe.num_shared_experts:
        shared = f"{at}.shared_experts"
        yield from _mlp(hidden, inner * moe.num_shared_experts, shared, also=shared)

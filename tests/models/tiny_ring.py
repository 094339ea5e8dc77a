"""A tiny Ring checkpoint under the published tensor names, which transformers cannot write."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Shape = tuple[int, ...]


def write_tiny_ring(directory: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """Writes config and random weights; returns the weights."""
    torch.manual_seed(1)
    weights = {name: _random(name, shape) for name, shape in _shapes(config)}
    directory.mkdir(parents=True)
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config))
    return weights


def _random(name: str, shape: Shape) -> Tensor:
    if name.endswith("expert_bias"):
        return torch.randn(shape) * 0.2
    return 1 + torch.randn(shape) * 0.2 if len(shape) == 1 else torch.randn(shape) * 0.15


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    vocab, hidden, layers = config["vocab_size"], config["hidden_size"], config["num_hidden_layers"]
    group = config["layer_group_size"]
    yield "model.word_embeddings.weight", (vocab, hidden)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)
    for i in range(layers):
        at = f"model.layers.{i}"
        yield f"{at}.input_layernorm.weight", (hidden,)
        yield f"{at}.post_attention_layernorm.weight", (hidden,)
        full = (i + 1) % group == 0 or i >= layers // group * group
        yield from _latent(f"{at}.attention", config) if full else _lightning(f"{at}.attention", config)
        if i < config["first_k_dense_replace"]:
            yield from _swiglu(f"{at}.mlp", config["intermediate_size"], hidden)
        else:
            yield from _experts(f"{at}.mlp", config)


def _lightning(at: str, config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, size = config["hidden_size"], config["head_dim"]
    width = config["num_attention_heads"] * size
    yield f"{at}.query_key_value.weight", (3 * width, hidden)
    yield f"{at}.g_proj.weight", (width, hidden)
    yield f"{at}.g_norm.weight", (width,)
    yield f"{at}.query_layernorm.weight", (size,)
    yield f"{at}.key_layernorm.weight", (size,)
    yield f"{at}.dense.weight", (hidden, width)


def _latent(at: str, config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, heads, rank = config["hidden_size"], config["num_attention_heads"], config["kv_lora_rank"]
    nope, rope, v_dim = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    q_rank = config["q_lora_rank"]
    if q_rank is None:
        yield f"{at}.q_proj.weight", (heads * (nope + rope), hidden)
    else:
        yield f"{at}.q_a_proj.weight", (q_rank, hidden)
        yield f"{at}.q_a_layernorm.weight", (q_rank,)
        yield f"{at}.q_b_proj.weight", (heads * (nope + rope), q_rank)
    yield f"{at}.kv_a_proj_with_mqa.weight", (rank + rope, hidden)
    yield f"{at}.kv_a_layernorm.weight", (rank,)
    yield f"{at}.kv_b_proj.weight", (heads * (nope + v_dim), rank)
    yield f"{at}.dense.weight", (hidden, heads * v_dim)


def _experts(at: str, config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, inner, count = config["hidden_size"], config["moe_intermediate_size"], config["num_experts"]
    yield f"{at}.gate.weight", (count, hidden)
    yield f"{at}.gate.expert_bias", (count,)
    yield from _swiglu(f"{at}.shared_experts", inner * config["num_shared_experts"], hidden)
    for e in range(count):
        yield from _swiglu(f"{at}.experts.{e}", inner, hidden)


def _swiglu(at: str, inner: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield f"{at}.gate_proj.weight", (inner, hidden)
    yield f"{at}.up_proj.weight", (inner, hidden)
    yield f"{at}.down_proj.weight", (hidden, inner)

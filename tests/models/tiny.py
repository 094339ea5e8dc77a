"""A tiny Kimi Linear as transformers writes it, and the same weights as the published checkpoint spells them."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

VOCAB = 160
TINY: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "kv_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 20,
    "num_experts": 8,
    "num_experts_per_token": 3,
    "num_expert_group": 4,
    "topk_group": 2,
    "num_shared_experts": 2,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "initializer_range": 0.15,
    "linear_head_dim": 16,
    "linear_num_heads": 4,
    "model_max_length": 1024,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers warns of deprecations in code of its own and of its dependencies."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def write_tiny(directory: Path) -> Any:
    """Writes the model with `save_pretrained` and returns transformers' own instance of it."""
    with quiet_transformers():
        from transformers import KimiLinearConfig, KimiLinearForCausalLM  # noqa: PLC0415 - slow to import

        config = KimiLinearConfig(**TINY)
        torch.manual_seed(1)
        model = KimiLinearForCausalLM(config).eval()
        for layer in model.model.layers[1:]:
            layer.mlp.gate.e_score_correction_bias.normal_(std=0.2)
        model.save_pretrained(directory)
    return model


def write_published(source: Path, directory: Path) -> None:
    """The checkpoint in `source` with published config keys and tensor names, in two shards."""
    raw = json.loads((source / "config.json").read_text())
    kinds = raw.pop("layer_types")
    del raw["mlp_layer_types"]
    numbers = range(1, len(kinds) + 1)
    raw["first_k_dense_replace"] = 1
    raw["linear_attn_config"] = {
        "head_dim": raw.pop("linear_head_dim"),
        "num_heads": raw.pop("linear_num_heads"),
        "short_conv_kernel_size": raw.pop("linear_conv_kernel_dim"),
        "full_attn_layers": [n for n in numbers if kinds[n - 1] == "full_attention"],
        "kda_layers": [n for n in numbers if kinds[n - 1] != "full_attention"],
    }
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(raw))
    dense = re.compile(r"block_sparse_moe\.(gate_proj|up_proj|down_proj)")
    tensors = {dense.sub(r"mlp.\1", name): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    save_sharded(directory, tensors)


def save_sharded(directory: Path, tensors: dict[str, Tensor]) -> None:
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, directory / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

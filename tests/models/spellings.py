"""Checkpoints as transformers writes them, rewritten as they are published."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Raw = dict[str, Any]
Tensors = dict[str, Tensor]
Spell = Callable[[Raw, Tensors], tuple[Raw, Tensors]]


def respell(source: Path, directory: Path, spell: Spell) -> Path:
    """The checkpoint in `source` with another config and other names, in two shards."""
    raw = json.loads((source / "config.json").read_text())
    raw, tensors = spell(raw, load_file(source / "model.safetensors"))
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(raw))
    save_sharded(directory, tensors)
    return directory


def save_sharded(directory: Path, tensors: Tensors) -> None:
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, directory / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def kimi_linear(raw: Raw, tensors: Tensors) -> tuple[Raw, Tensors]:
    """Layer numbers from 1, linear attention in a table of its own, dense layers under another name."""
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
    dense = re.compile(r"block_sparse_moe\.(gate_proj|up_proj|down_proj)")
    return raw, {dense.sub(r"mlp.\1", name): tensor for name, tensor in tensors.items()}


def mimo_v2_flash(raw: Raw, tensors: Tensors) -> tuple[Raw, Tensors]:
    """Numbers for kinds of layers, sizes of windowed layers apart, a window that leaves out the query."""
    rope = raw.pop("rope_parameters")
    window = raw["sliding_window"] - 1
    return {
        **{key: value for key, value in raw.items() if key not in ("layer_types", "mlp_layer_types", "rms_norm_eps")},
        "hybrid_layer_pattern": [int(kind == "sliding_attention") for kind in raw["layer_types"]],
        "moe_layer_freq": [int(kind == "sparse") for kind in raw["mlp_layer_types"]],
        "layernorm_epsilon": raw["rms_norm_eps"],
        "rope_theta": rope["full_attention"]["rope_theta"],
        "swa_rope_theta": rope["sliding_attention"]["rope_theta"],
        "partial_rotary_factor": rope["full_attention"]["partial_rotary_factor"],
        "sliding_window": window,
        "sliding_window_size": window,
        "swa_num_attention_heads": raw["num_attention_heads"],
        "swa_num_key_value_heads": 2 * raw["num_key_value_heads"],
        "swa_head_dim": raw["head_dim"],
        "swa_v_head_dim": raw["v_head_dim"],
        "n_shared_experts": None,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
    }, {**tensors, "model.mtp.layers.0.eh_proj.weight": torch.zeros(2, 2)}


def minimax_m2(raw: Raw, tensors: Tensors) -> tuple[Raw, Tensors]:
    """The rotary embedding by its number of channels."""
    theta = raw.pop("rope_parameters")["rope_theta"]
    published = {"use_qk_norm": True, "qk_norm_type": "per_layer", "use_routing_bias": True, "use_mtp": True}
    return {**raw, **published, "rope_theta": theta, "shared_intermediate_size": 0, "scoring_func": "sigmoid"}, tensors


def qwen3_next(raw: Raw, tensors: Tensors) -> tuple[Raw, Tensors]:
    """An interval for the kinds of layers, the rotary embedding in keys of its own, a prediction head."""
    rope = raw.pop("rope_parameters")
    interval = raw.pop("layer_types").index("full_attention") + 1
    return {
        **raw,
        "full_attention_interval": interval,
        "partial_rotary_factor": rope["partial_rotary_factor"],
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None,
    }, {**tensors, "mtp.layers.0.mlp.gate.weight": torch.zeros(2, 2)}


def qwen3_5_moe(raw: Raw, tensors: Tensors) -> tuple[Raw, Tensors]:
    """Beside an image encoder and a prediction head, with the experts of a layer in two tensors."""
    text = {name.replace("model.", "model.language_model.", 1): tensor for name, tensor in tensors.items()}
    routed = re.compile(r"\.experts\.\d+\.")
    fused = {name: tensor for name, tensor in text.items() if not routed.search(name)}
    for i in range(raw["num_hidden_layers"]):
        at = f"model.language_model.layers.{i}.mlp.experts"
        each = [f"{at}.{e}" for e in range(raw["num_experts"])]
        pairs = [torch.cat([text[f"{e}.gate_proj.weight"], text[f"{e}.up_proj.weight"]]) for e in each]
        fused[f"{at}.gate_up_proj"] = torch.stack(pairs)
        fused[f"{at}.down_proj"] = torch.stack([text[f"{e}.down_proj.weight"] for e in each])
    whole = {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "model_type": "qwen3_5_moe",
        "text_config": {key: value for key, value in raw.items() if key != "tie_word_embeddings"},
        "vision_config": {"depth": 1},
        "tie_word_embeddings": False,
    }
    beside = (
        "model.visual.blocks.0.attn.qkv.weight",
        "model.visual.merger.norm.weight",
        "mtp.layers.0.mlp.gate.weight",
    )
    return whole, {**fused, **{name: torch.zeros(2, 2) for name in beside}}

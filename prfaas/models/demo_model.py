"""Writes a small random Kimi Linear as a Hugging Face directory: enough to run every part of the system on a laptop.

It knows no language: it answers with words of its text in an order that depends on the whole prompt.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer

from prfaas.core.errors import ModelError
from prfaas.core.families.kimi_linear import kimi_linear
from prfaas.models.demo_text import demo_text
from prfaas.models.demo_tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, train_tokenizer, unreadable_ids
from prfaas.models.demo_weights import random_weights

_NUM_LAYERS = 8
_FULL_ATTENTION = (3, 7)
_VOCAB = 2048


def write_demo_model(directory: Path, seed: int = 0) -> None:
    """Writes the demo model to `directory`, complete or not at all. The same seed gives the same weights.

    Raises ModelError if the directory exists and is not empty, or cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(f"{directory} already exists and is not empty; choose another path or remove it")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise ModelError(f"cannot write {directory}: {error.strerror}") from error
    try:
        _write_files(scratch, seed)
        scratch.chmod(0o755)
        scratch.replace(directory)
    except OSError as error:
        raise ModelError(f"cannot write {directory}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_files(directory: Path, seed: int) -> None:
    text = demo_text()
    tokenizer = train_tokenizer(text, _VOCAB)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = _config(tokenizer)
    _write_json(directory / "config.json", config)
    weights = random_weights(kimi_linear(config), seed, silent_ids=unreadable_ids(tokenizer, text))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    _write_json(directory / "tokenizer_config.json", _tokenizer_config())
    _write_json(directory / "generation_config.json", {"eos_token_id": config["eos_token_id"], "do_sample": False})
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + os.linesep, encoding="utf-8")


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
        "model_max_length": 16384,
        "clean_up_tokenization_spaces": False,
    }


def _config(tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json in the spelling of transformers 5."""
    layers = range(_NUM_LAYERS)
    return {
        "architectures": ["KimiLinearForCausalLM"],
        "model_type": "kimi_linear",
        "dtype": "float32",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": _NUM_LAYERS,
        "layer_types": ["full_attention" if i in _FULL_ATTENTION else "linear_attention" for i in layers],
        "mlp_layer_types": ["sparse" if i else "dense" for i in layers],
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 128,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "v_head_dim": 64,
        "linear_num_heads": 4,
        "linear_head_dim": 64,
        "linear_conv_kernel_dim": 4,
        "num_experts": 8,
        "num_experts_per_token": 2,
        "num_shared_experts": 1,
        "moe_intermediate_size": 256,
        "num_expert_group": 1,
        "topk_group": 1,
        "moe_renormalize": True,
        "routed_scaling_factor": 1.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "model_max_length": 16384,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END_OF_TURN),
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
    }

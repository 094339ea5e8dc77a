"""Writes a small random checkpoint of each hybrid family, as transformers saves it: `python -m ... MODEL DIRECTORY`.

Knows no engine; every engine loads the same directory.
"""

import json
import sys
from pathlib import Path
from typing import Any

from prfaas.models.demo_text import demo_text
from prfaas.models.demo_tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, train_tokenizer

VOCAB = 2048
FIRST_ORDINARY_ID = 3
"""Ids below are special tokens."""

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "tie_word_embeddings": False,
}
_QWEN: dict[str, Any] = {
    **_COMMON,
    "num_hidden_layers": 12,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 32768,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("qwen3_5_text", _QWEN),
    "qwen3_next": (
        "qwen3_next",
        {
            **_QWEN,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 384,
            "shared_expert_intermediate_size": 384,
        },
    ),
    "kimi_linear": (
        "kimi_linear",
        {
            **_COMMON,
            "num_hidden_layers": 8,
            "num_key_value_heads": 8,
            "model_max_length": 32768,
            "kv_lora_rank": 128,
            "qk_rope_head_dim": 32,
            "qk_nope_head_dim": 64,
            "v_head_dim": 64,
            "linear_num_heads": 8,
            "linear_head_dim": 64,
            "num_experts": 8,
            "num_experts_per_token": 2,
            "moe_intermediate_size": 384,
        },
    ),
}
"""By our name: the model type that transformers gives it, and its config."""


def write_checkpoint(model: str, directory: Path) -> None:
    """Weights in bf16, config and tokenizer. The same weights every time."""
    import torch  # noqa: PLC0415 - whoever reads CONFIGS needs neither
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    model_type, settings = CONFIGS[model]
    torch.manual_seed(0)
    written = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings), dtype=torch.bfloat16)
    written.save_pretrained(directory)
    train_tokenizer(demo_text(), VOCAB).save(str(directory / "tokenizer.json"))
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


if __name__ == "__main__":
    write_checkpoint(sys.argv[1], Path(sys.argv[2]))

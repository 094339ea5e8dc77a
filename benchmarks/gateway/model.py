"""A model directory for a router that has no instance with weights: a tokenizer of a real size, a config, a template.

Its tokenizer is trained on what every machine has, the sources of Python's standard library; prompts are cut from those
that it was not trained on.
"""

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from prfaas.models.demo_tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, train_tokenizer

NAME = "bench"
VOCAB = 32_000
TRAINED_BYTES = 6 << 20
"""What makes 32,000 tokens in some seconds."""
CONTEXT_TOKENS = 262_144

_CONFIG = {
    "architectures": ["KimiLinearForCausalLM"],
    "model_type": "kimi_linear",
    "dtype": "float32",
    "vocab_size": VOCAB,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
    "layer_types": [*["linear_attention"] * 3, "full_attention"] * 2,
    "mlp_layer_types": ["dense", *["sparse"] * 7],
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
    "rms_norm_eps": 1e-05,
    "model_max_length": CONTEXT_TOKENS,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def write_model(directory: Path, vocab: int = VOCAB, trained_bytes: int = TRAINED_BYTES) -> str:
    """What a router reads of a model. Returns text that the tokenizer has not seen, to make prompts of."""
    directory.mkdir(parents=True, exist_ok=True)
    sources = _sources()
    trained: list[str] = []
    while sum(map(len, trained)) < trained_bytes:
        trained.append(next(sources))
    train_tokenizer("\n".join(trained), vocab).save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    for name, content in (
        ("config", _CONFIG),
        ("generation_config", {"eos_token_id": 2, "do_sample": False}),
        (
            "tokenizer_config",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": END_OF_TURN,
                "pad_token": END_OF_TEXT,
                "model_max_length": CONTEXT_TOKENS,
                "clean_up_tokenization_spaces": False,
            },
        ),
    ):
        (directory / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return "\n".join(sources)


def _sources() -> Iterator[str]:
    """One after the other; what is installed beside the library does not count as part of it."""
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        if not {"site-packages", "dist-packages"} & set(file.parts):
            yield file.read_text(encoding="utf-8", errors="replace")

"""Every number of a config that changes no tensor's shape shows in the logits, so that parity would miss none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prfaas.models.loader import load_model
from tests.models.conftest import Tiny
from tests.models.rig import in_chunks, logit_error, make_rig
from tests.models.spellings import Raw, Tensors, respell

IDS = [(7 * i + 3) % 150 + 3 for i in range(60)]
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
CHANGES: dict[str, Raw] = {
    "kimi_linear": {
        "routed_scaling_factor": 1.0,
        "moe_renormalize": False,
        "topk_group": 3,
        "num_expert_group": 2,
        "num_experts_per_token": 2,
        "rms_norm_eps": 1e-2,
    },
    "qwen3": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}, "rms_norm_eps": 1e-2},
    "qwen3_moe": {"norm_topk_prob": False, "num_experts_per_tok": 2},
    "qwen3_next": {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}, "norm_topk_prob": False},
    "qwen3_5_text": {"rope_parameters": ROPE | {"rope_theta": 100.0}, "rms_norm_eps": 1e-2},
    "mimo_v2_flash": {
        "attention_value_scale": 1.0,
        "sliding_window": 18,
        "topk_group": 3,
        "n_group": 2,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE},
    },
    "minimax": {
        "full_attn_alpha_factor": 1.0,
        "full_attn_beta_factor": 1.0,
        "linear_attn_alpha_factor": 1.0,
        "linear_attn_beta_factor": 1.0,
        "mlp_alpha_factor": 1.0,
        "mlp_beta_factor": 1.0,
        "num_experts_per_tok": 1,
    },
    "minimax_m2": {"rotary_dim": 16, "num_experts_per_tok": 1},
    "ring": {
        "group_norm_size": 1,
        "partial_rotary_factor": 1.0,
        "rope_theta": 100.0,
        "rope_interleave": False,
        "topk_group": 3,
        "n_group": 2,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
    },
}


@pytest.mark.parametrize(
    ("family", "key", "value"), [(family, key, value) for family, of in CHANGES.items() for key, value in of.items()]
)
def test_a_setting_shows(tiny_of: Callable[[str], Tiny], tmp_path: Path, family: str, key: str, value: Any) -> None:
    def change(raw: Raw, tensors: Tensors) -> tuple[Raw, Tensors]:
        assert raw.get(key) != value
        return raw | {key: value}, tensors

    tiny = tiny_of(family)
    changed = load_model(respell(tiny.directory, tmp_path / "m", change), "float32")
    expected = in_chunks(make_rig(tiny.ours), IDS, 60)
    assert logit_error(in_chunks(make_rig(changed), IDS, 60), expected) > 1e-3
    assert changed.fingerprint != tiny.ours.fingerprint

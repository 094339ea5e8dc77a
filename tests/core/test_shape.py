"""Cache sizes in closed form against those of the published models."""

from collections import Counter

import pytest

from prfaas.core.shape import DTYPE_BYTES, ModelShape, model_shape
from tests.core.configs import CONFIGS, PUBLISHED

KV_BYTES_PER_TOKEN = {
    "MiniMax-M2.5": 253_952,
    "Qwen3-235B-A22B": 192_512,
    "Qwen3.5-397B-A17B": 30_720,
    "Qwen3-Next-80B-A3B": 24_576,
    "MiMo-V2-Flash": 23_040,
    "Kimi-Linear-48B-A3B": 8_064,
    "Ring-2.5-1T": 11_520,
}
STATE_BYTES = {
    "MiniMax-M2.5": {},
    "Qwen3-235B-A22B": {},
    "Qwen3.5-397B-A17B": {"state": 188_743_680, "conv": 3_317_760},
    "Qwen3-Next-80B-A3B": {"state": 75_497_472, "conv": 1_769_472},
    "MiMo-V2-Flash": {"k": 15_335_424, "v": 10_223_616},
    "Kimi-Linear-48B-A3B": {"state": 41_943_040, "conv": 1_474_560},
    "Ring-2.5-1T": {"state": 293_601_280},
}
KINDS = {
    "MiniMax-M2.5": {"gqa": 62},
    "Qwen3-235B-A22B": {"gqa": 94},
    "Qwen3.5-397B-A17B": {"gqa": 15, "gdn": 45},
    "Qwen3-Next-80B-A3B": {"gqa": 12, "gdn": 36},
    "MiMo-V2-Flash": {"gqa": 9, "window": 39},
    "Kimi-Linear-48B-A3B": {"mla": 7, "kda": 20},
    "Ring-2.5-1T": {"mla": 10, "lightning": 70},
}


def state_bytes(shape: ModelShape) -> dict[str, int]:
    found: Counter[str] = Counter()
    for i in shape.state_layers:
        found.update({tensor.name: tensor.num_bytes for tensor in shape.layers[i].tensors})
    return dict(found)


@pytest.mark.parametrize("model", sorted(PUBLISHED))
def test_published_models_have_their_published_bytes(model: str) -> None:
    shape = model_shape(PUBLISHED[model], "bfloat16")
    assert shape.kv_bytes_per_token == KV_BYTES_PER_TOKEN[model]
    assert state_bytes(shape) == STATE_BYTES[model]
    assert Counter(layer.kind for layer in shape.layers) == KINDS[model]
    assert shape.cache_bytes(1000) == 1000 * KV_BYTES_PER_TOKEN[model] + sum(STATE_BYTES[model].values())


def test_every_published_model_is_in_the_table() -> None:
    assert set(PUBLISHED) == set(KV_BYTES_PER_TOKEN) == set(STATE_BYTES) == set(KINDS)


@pytest.mark.parametrize("model", sorted(PUBLISHED))
def test_fp32_doubles_all_but_the_linear_states(model: str) -> None:
    single, half = (model_shape(PUBLISHED[model], dtype) for dtype in DTYPE_BYTES)
    assert single.kv_bytes_per_token == 2 * half.kv_bytes_per_token
    assert single.state_bytes == 2 * half.state_bytes - state_bytes(half).get("state", 0)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_rows_make_up_every_tensor(family: str) -> None:
    shape = model_shape(CONFIGS[family], "bfloat16")
    for layer in shape.layers:
        for i, tensor in enumerate(layer.tensors):
            whole = tensor.num_bytes * (100 if layer.paged else 1)
            assert layer.num_rows(i, 100) * layer.row_bytes(i) == whole
            assert layer.row_bytes(i) <= shape.largest_row_bytes


def test_full_attention_of_kimi_is_where_it_is_published() -> None:
    assert model_shape(PUBLISHED["Kimi-Linear-48B-A3B"], "bfloat16").paged_layers == (3, 7, 11, 15, 19, 23, 26)

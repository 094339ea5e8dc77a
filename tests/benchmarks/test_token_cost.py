"""What a token costs at least, against checkpoints whose every tensor is counted here."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from benchmarks.engine_peers.checkpoints import CONFIGS, VOCAB, write_checkpoint
from benchmarks.engine_peers.token_cost import mixing_flop, token_cost
from prfaas.core.decoder_spec import DecoderSpec, Experts, Gdn, Gqa, Kda, Lightning, Mla
from prfaas.core.families.registry import decoder_spec
from prfaas.core.model_files import read_config
from tests.models.tiny import quiet_transformers

HIDDEN, INNER = 512, 384
EXPERT = 3 * HIDDEN * INNER


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    with quiet_transformers():
        for model in CONFIGS:
            write_checkpoint(model, folder / model)
    return {model: folder / model for model in CONFIGS}


def spec_of(directory: Path) -> DecoderSpec:
    return decoder_spec(read_config(directory))


def stored_elements(directory: Path) -> int:
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
    assert {tensor.element_size() for tensor in tensors} == {2}, "all of it is bf16"
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_token_reads_all_but_other_experts_and_other_rows_of_the_embedding(
    model: str, checkpoints: dict[str, Path]
) -> None:
    directory = checkpoints[model]
    sparse = sum(isinstance(layer.mlp, Experts) for layer in spec_of(directory).layers)
    unread = (VOCAB - 1) * HIDDEN + sparse * (8 - 2) * EXPERT
    assert token_cost(directory, 1).weight_bytes == 2 * (stored_elements(directory) - unread)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_prompts_token_does_two_operations_per_weight_and_its_mixing(
    model: str, checkpoints: dict[str, Path]
) -> None:
    directory = checkpoints[model]
    cost = token_cost(directory, 1000)
    mixing = sum(mixing_flop(layer.mixer, 1000) for layer in spec_of(directory).layers)
    head_and_row = (VOCAB + 1) * HIDDEN
    # Norms and the like, which are read but multiply nothing.
    vectors = cost.weight_bytes / 2 - head_and_row - (cost.prefill_flop - mixing) / 2
    assert 0 < vectors < 0.001 * cost.weight_bytes / 2


def test_every_engine_finds_sizes_and_limits_where_it_looks(checkpoints: dict[str, Path]) -> None:
    for directory in checkpoints.values():
        spec = spec_of(directory)
        assert (spec.vocab_size, spec.hidden_size, spec.max_context_tokens) == (VOCAB, HIDDEN, 32768)
        assert spec.eos_token_ids == (2,)


@given(heads=st.integers(1, 64), k=st.integers(1, 256), v=st.integers(1, 256), tokens=st.integers(2, 1 << 20))
def test_attention_grows_with_the_prompt_and_linear_attention_does_not(heads: int, k: int, v: int, tokens: int) -> None:
    gqa = Gqa(heads, 1, k, v, None)
    assert mixing_flop(gqa, tokens) == tokens * mixing_flop(gqa, 1)
    mla = Mla(heads, 512, nope_dim=k, rope_dim=0, v_dim=v)
    assert mixing_flop(mla, tokens) == mixing_flop(gqa, tokens)
    for linear in (Kda(heads, k, 4), Gdn(1, heads, k, v, 4), Lightning(heads, k, (), 1.0, 1, 1e-6)):
        assert mixing_flop(linear, tokens) == mixing_flop(linear, 1)


def test_a_window_bounds_what_a_token_attends_to() -> None:
    windowed = Gqa(2, 1, 8, 8, None, window=100)
    assert mixing_flop(windowed, 50) == mixing_flop(Gqa(2, 1, 8, 8, None), 50)
    assert mixing_flop(windowed, 10_000) == mixing_flop(windowed, 20_000) == 2 * 16 * 200

"""The same weights under other names, beside other tensors, or with fewer of them, are the same model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prfaas.core.errors import ModelError
from prfaas.models.loader import load_model
from tests.models import spellings
from tests.models.conftest import Tiny
from tests.models.rig import Part, forward, in_chunks, logit_error, make_rig
from tests.models.spellings import Spell, respell
from tests.models.tiny import write_tiny
from tests.models.tiny_configs import TINY

IDS = [(7 * i + 3) % 150 + 3 for i in range(40)]
PUBLISHED = {
    "kimi_linear": spellings.kimi_linear,
    "mimo_v2_flash": spellings.mimo_v2_flash,
    "minimax_m2": spellings.minimax_m2,
    "qwen3_next": spellings.qwen3_next,
    "qwen3_5_moe_text": spellings.qwen3_5_moe,
}


@pytest.mark.parametrize(("family", "spell"), PUBLISHED.items(), ids=list(PUBLISHED))
def test_published_checkpoints(tiny_of: Callable[[str], Tiny], tmp_path: Path, family: str, spell: Spell) -> None:
    tiny = tiny_of(family)
    published = load_model(respell(tiny.directory, tmp_path / "m", spell), "float32")
    assert published.spec == tiny.ours.spec
    assert published.shape == tiny.ours.shape
    parts = [Part(0, IDS)]
    torch.manual_seed(0)
    expected = forward(make_rig(tiny.ours), parts)[0]
    torch.manual_seed(0)
    assert torch.equal(forward(make_rig(published), parts)[0], expected)


@pytest.mark.parametrize("family", ["kimi_linear", "mimo_v2_flash", "minimax_m2", "qwen3_next"])
def test_spelling_does_not_change_the_fingerprint(tiny_of: Callable[[str], Tiny], tmp_path: Path, family: str) -> None:
    tiny = tiny_of(family)
    published = load_model(respell(tiny.directory, tmp_path / "m", PUBLISHED[family]), "float32")
    assert published.fingerprint == tiny.ours.fingerprint


def test_layers_that_predict_further_tokens_are_left_alone(every: Tiny, tmp_path: Path) -> None:
    def add(raw: spellings.Raw, tensors: spellings.Tensors) -> tuple[spellings.Raw, spellings.Tensors]:
        beyond = f"model.layers.{raw['num_hidden_layers']}"
        return raw, {**tensors, f"{beyond}.eh_proj.weight": torch.zeros(2, 2), f"{beyond}.enorm.weight": torch.ones(2)}

    model = load_model(respell(every.directory, tmp_path / "m", add), "float32")
    assert model.fingerprint == every.ours.fingerprint


@pytest.mark.parametrize("family", sorted(set(TINY) - {"ring", "kimi_linear"}))  # transformers ties neither
def test_tied_embeddings(tmp_path: Path, family: str) -> None:
    theirs = write_tiny(family, tmp_path / "m", tie_word_embeddings=True)
    ours = load_model(tmp_path / "m", "float32")
    assert ours.spec.tie_embeddings
    assert logit_error(in_chunks(make_rig(ours), IDS, 40), theirs(IDS)) < 2e-5


def test_a_stored_head_of_tied_embeddings_is_not_read(tmp_path: Path) -> None:
    write_tiny("qwen3", tmp_path / "m", tie_word_embeddings=True)

    def add(raw: spellings.Raw, tensors: spellings.Tensors) -> tuple[spellings.Raw, spellings.Tensors]:
        return raw, {**tensors, "lm_head.weight": torch.full((160, 48), torch.nan)}

    ours = load_model(respell(tmp_path / "m", tmp_path / "with", add), "float32")
    assert in_chunks(make_rig(ours), IDS, 40).isfinite().all()


def test_ring_without_a_bottleneck_for_its_queries(tmp_path: Path) -> None:
    theirs = write_tiny("ring", tmp_path / "m", q_lora_rank=None)
    ours = load_model(tmp_path / "m", "float32")
    assert logit_error(in_chunks(make_rig(ours), IDS, 17), theirs(IDS)) < 2e-5


@pytest.mark.parametrize("architectures", [["BailingMoeV3ForCausalLM"], None, []])
def test_other_generations_of_bailing_are_refused(tmp_path: Path, architectures: list[str] | None) -> None:
    write_tiny("ring", tmp_path / "m", architectures=architectures)
    with pytest.raises(ModelError, match="bailing_hybrid"):
        load_model(tmp_path / "m", "float32")

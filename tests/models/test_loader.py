import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from prfaas.core.errors import ModelError, UnsupportedModelError
from prfaas.models.loader import LoadedModel, load_model
from tests.models import spellings
from tests.models.conftest import Tiny
from tests.models.rig import in_chunks, make_rig
from tests.models.spellings import respell

NORM = "model.layers.0.input_layernorm.weight"


def rewrite(source: Path, target: Path, change: dict[str, Tensor | None]) -> Path:
    """A copy of a checkpoint with tensors replaced, added or (None) removed."""
    tensors: dict[str, Tensor | None] = {**load_file(source / "model.safetensors"), **change}
    target.mkdir()
    save_file({name: t for name, t in tensors.items() if t is not None}, target / "model.safetensors")
    (target / "config.json").write_text((source / "config.json").read_text())
    return target


def logits(model: LoadedModel) -> Tensor:
    torch.manual_seed(0)
    return in_chunks(make_rig(model), list(range(3, 43)), 40)


def fails(directory: Path, *parts: str) -> None:
    with pytest.raises(ModelError) as failure:
        load_model(directory, "float32")
    for part in parts:
        assert part in str(failure.value)


def test_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    fails(missing, f"model directory {missing} does not exist", f"`prfaas demo-model {missing}`")


def test_directory_without_config(tmp_path: Path) -> None:
    fails(tmp_path, str(tmp_path), "config.json")


@pytest.mark.parametrize("content", ["{", "[]", "\ufeff{}"])
def test_broken_config(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    fails(tmp_path, "config.json")


def test_unknown_family(tiny: Tiny, tmp_path: Path) -> None:
    directory = rewrite(tiny.directory, tmp_path / "m", {})
    (directory / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UnsupportedModelError, match="llama"):
        load_model(directory, "float32")


def test_no_weights(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny.directory / "config.json").read_text())
    fails(tmp_path, "model.safetensors")


def test_missing_shard(tiny: Tiny, tmp_path: Path) -> None:
    respell(tiny.directory, tmp_path / "m", spellings.kimi_linear)
    (tmp_path / "m" / "model-00002-of-00002.safetensors").unlink()
    fails(tmp_path / "m", "model-00002-of-00002.safetensors")


def test_missing_extra_and_misshapen_tensors_in_one_report(tiny: Tiny, tmp_path: Path) -> None:
    change = {NORM: None, "model.layers.0.norm": torch.zeros(1), "lm_head.weight": torch.zeros(3, 4)}
    fails(
        rewrite(tiny.directory, tmp_path / "m", change), f"missing: {NORM}", "unexpected: model.layers.0.norm", "[3, 4]"
    )


def test_long_reports_are_cut(tiny: Tiny, tmp_path: Path) -> None:
    extra: dict[str, Tensor | None] = {f"extra.{i}": torch.zeros(1) for i in range(30)}
    fails(rewrite(tiny.directory, tmp_path / "m", extra), "extra.0", "and 25 more")


def test_truncated_file(tiny: Tiny, tmp_path: Path) -> None:
    directory = rewrite(tiny.directory, tmp_path / "m", {})
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    fails(directory, str(file), "truncated")


@pytest.mark.parametrize("content", [b"", b"short", b"\x05" + bytes(7) + b"12345", b"\x02" + bytes(7) + b"[]"])
def test_not_a_safetensors_file(tiny: Tiny, tmp_path: Path, content: bytes) -> None:
    directory = rewrite(tiny.directory, tmp_path / "m", {})
    (directory / "model.safetensors").write_bytes(content)
    fails(directory, "model.safetensors")


def test_weights_outlive_their_files(tiny: Tiny, tmp_path: Path) -> None:
    directory = rewrite(tiny.directory, tmp_path / "m", {})
    model = load_model(directory, "float32")
    size = (directory / "model.safetensors").stat().st_size
    with (directory / "model.safetensors").open("r+b") as file:
        file.write(bytes(size))
    assert torch.equal(logits(model), logits(tiny.ours))


def test_end_tokens_of_generation_config_win(tiny: Tiny, tmp_path: Path) -> None:
    directory = rewrite(tiny.directory, tmp_path / "m", {})
    assert load_model(directory, "float32").eos_token_ids == (2,)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    assert load_model(directory, "float32").eos_token_ids == (7, 8)
    wrong: list[object] = ["x", {}, [None], float("inf")]
    for broken in wrong:
        (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": broken}))
        fails(directory, "generation_config.json", f"eos_token_id is {broken!r}")


def test_tied_embeddings_need_no_head(tiny: Tiny, tmp_path: Path) -> None:
    table = load_file(tiny.directory / "model.safetensors")["model.embed_tokens.weight"]
    untied = load_model(rewrite(tiny.directory, tmp_path / "untied", {"lm_head.weight": table.clone()}), "float32")
    directory = rewrite(tiny.directory, tmp_path / "tied", {"lm_head.weight": None})
    raw = json.loads((directory / "config.json").read_text()) | {"tie_word_embeddings": True}
    (directory / "config.json").write_text(json.dumps(raw))
    assert torch.equal(logits(load_model(directory, "float32")), logits(untied))


def test_fingerprint_is_stable_and_knows_weights(tiny: Tiny, tmp_path: Path) -> None:
    copy = rewrite(tiny.directory, tmp_path / "copy", {})
    changed = rewrite(tiny.directory, tmp_path / "changed", {NORM: torch.full((48,), 1.5)})
    prints = [load_model(d, "float32").fingerprint for d in (tiny.directory, copy, changed)]
    prints.append(load_model(copy, "bfloat16").fingerprint)
    # Caches are converted between instances that serve the same weights in different dtypes.
    assert prints[0] == prints[1] == prints[3] == tiny.ours.fingerprint
    assert len(set(prints)) == 2
    assert all(len(p) == 32 for p in prints)

"""A checkpoint that is not the one its config describes is refused by its headers alone, naming the tensors."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch

from prfaas.core.errors import ModelError
from prfaas.core.families.registry import decoder_spec, family_of
from prfaas.models.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from prfaas.models.loader import load_model
from prfaas.models.parts import parts
from prfaas.models.weight_maps.registry import WEIGHT_MAPS
from prfaas.models.weights import Weights, match_weights
from tests.core.configs import CONFIGS, PUBLISHED
from tests.models.conftest import Tiny

PARAMETERS = {
    "Kimi-Linear-48B-A3B": 49e9,
    "MiMo-V2-Flash": 309e9,
    "MiniMax-M2.5": 229e9,
    "Qwen3-235B-A22B": 235e9,
    "Qwen3-Next-80B-A3B": 80e9,
    "Qwen3.5-397B-A17B": 397e9,
    "Ring-2.5-1T": 1e12,
}


def match(checkpoint: Checkpoint) -> Weights:
    spec, family = decoder_spec(checkpoint.config), WEIGHT_MAPS[family_of(checkpoint.config)]
    return match_weights(checkpoint, spec, family, torch.float32)


def fault(checkpoint: Checkpoint, tensors: Mapping[str, StoredTensor]) -> str:
    """What is said of a checkpoint that has these tensors instead."""
    with pytest.raises(ModelError) as failure:
        match(replace(checkpoint, tensors=tensors))
    return str(failure.value)


def one_of_each(checkpoint: Checkpoint) -> list[str]:
    """A tensor of every kind that is read: the first of those that differ in their numbers only."""
    kinds: dict[str, str] = {}
    for name in sorted({stored.name for found in match(checkpoint).found.values() for stored in found.stored}):
        kinds.setdefault(re.sub(r"\d+", "N", name), name)
    return list(kinds.values())


def test_every_tensor_is_missed(every: Tiny) -> None:
    """Where a family has two spellings, its own is named, so only the layer is sure to be."""
    checkpoint = open_checkpoint(every.directory)
    for name in one_of_each(checkpoint):
        rest = {other: tensor for other, tensor in checkpoint.tensors.items() if other != name}
        layer = re.match(r".*layers\.\d+\.", name)
        assert f"missing: {layer[0] if layer else name}" in fault(checkpoint, rest)


@pytest.mark.parametrize("more", [1, -1])
def test_every_tensor_of_another_shape_is_noticed(every: Tiny, more: int) -> None:
    checkpoint = open_checkpoint(every.directory)
    for name in one_of_each(checkpoint):
        tensor = checkpoint.tensors[name]
        for axis in range(len(tensor.shape)):
            shape = tuple(size + more * (i == axis) for i, size in enumerate(tensor.shape))
            message = fault(checkpoint, {**checkpoint.tensors, name: replace(tensor, shape=shape)})
            assert "of wrong shape" in message
            assert str(list(shape)) in message, name


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8", "U8"])
def test_every_quantised_tensor_is_refused(every: Tiny, dtype: str) -> None:
    checkpoint = open_checkpoint(every.directory)
    for name in one_of_each(checkpoint):
        tensor = replace(checkpoint.tensors[name], dtype=dtype)
        assert f"quantised: {name} is {dtype}" in fault(checkpoint, {**checkpoint.tensors, name: tensor})


@pytest.mark.parametrize(
    "extra",
    ["model.layers.0.self_attn.q_proj.bias", "model.layers.1.mlp.gate_proj.weight_scale_inv", "lm_head.bias", "x"],
)
def test_unknown_tensors_are_refused(every: Tiny, extra: str) -> None:
    checkpoint = open_checkpoint(every.directory)
    some = next(iter(checkpoint.tensors.values()))
    assert f"unexpected: {extra}" in fault(checkpoint, {**checkpoint.tensors, extra: replace(some, name=extra)})


def test_layers_that_the_config_does_not_count_are_not_dropped(every: Tiny) -> None:
    checkpoint = open_checkpoint(every.directory)
    last = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith("model.layers.3.")}
    more = {name.replace(".3.", ".4.", 1): tensor for name, tensor in last.items()}
    assert "unexpected: model.layers.4." in fault(checkpoint, {**checkpoint.tensors, **more})


@pytest.mark.parametrize("settings", [{"quant_method": "fp8"}, "fp8"])
@pytest.mark.parametrize("where", ["quantization_config", "text_config"])
def test_quantised_checkpoints_are_refused_by_their_config(
    every: Tiny, tmp_path: Path, where: str, settings: object
) -> None:
    raw = json.loads((every.directory / "config.json").read_text())
    raw[where] = settings if where == "quantization_config" else {"quantization_config": settings}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "model.safetensors").write_bytes((every.directory / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"quantization_config \(fp8\)"):
        load_model(tmp_path, "float32")


def test_a_huge_checkpoint_with_one_wrong_tensor_is_not_read(tmp_path: Path) -> None:
    """The file is sparse: reading what it promises would fill the memory of any machine."""
    raw = CONFIGS["qwen3"]
    spec = decoder_spec(raw)
    places = WEIGHT_MAPS["qwen3"].sources(spec, ())
    header, offset = {}, 0
    for part in parts(spec):
        (name,) = places[part.name][0].names
        shape = (3, *part.shape[1:]) if name == "model.layers.93.mlp.down_proj.weight" else part.shape
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (offset, offset := offset + 2 * prod(shape))}
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert offset > 40e9
    with pytest.raises(ModelError, match=r"of wrong shape: model\.layers\.93\.mlp\.down_proj\.weight is \[3, 12288\]"):
        load_model(tmp_path, "bfloat16")


def test_a_config_of_another_size_makes_a_short_report(every: Tiny) -> None:
    checkpoint = replace(open_checkpoint(every.directory), config=CONFIGS["qwen3_5_moe"])
    message = fault(checkpoint, checkpoint.tensors)
    assert re.search(r"missing: .* and \d{5,} more", message)
    assert len(message) < 3000


@pytest.mark.parametrize("model", sorted(PUBLISHED))
def test_parts_add_up_to_the_published_number_of_parameters(model: str) -> None:
    total = sum(prod(part.shape) for part in parts(decoder_spec(PUBLISHED[model])))
    assert total == pytest.approx(PARAMETERS[model], rel=0.015)

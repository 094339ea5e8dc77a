import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from prfaas.core.errors import ModelError
from prfaas.models.demo_model import write_demo_model
from prfaas.models.demo_text import demo_text
from prfaas.models.loader import LoadedModel, load_model
from tests.models.rig import Part, Rig, forward, greedy, in_chunks, logit_error, make_rig
from tests.models.tiny import quiet_transformers


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "model"
    write_demo_model(path)
    return path


@pytest.fixture(scope="module")
def model(directory: Path) -> LoadedModel:
    return load_model(directory, "float32")


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def rig(model: LoadedModel) -> Rig:
    return make_rig(model, max_tokens=1100, page_tokens=64)


def test_transformers_loads_it_and_agrees(directory: Path, model: LoadedModel) -> None:
    with quiet_transformers():
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - slow to import

        theirs = AutoModelForCausalLM.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        chat = [{"role": "user", "content": "What did Chappe build?"}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text).input_ids
        expected = theirs(torch.tensor([ids])).logits[0]
    assert text == "<|im_start|>user\nWhat did Chappe build?<|im_end|>\n<|im_start|>assistant\n"
    assert logit_error(in_chunks(rig(model), ids, 8), expected) < 1e-4


def test_shape_is_the_promised_one(directory: Path, model: LoadedModel, tokenizer: Tokenizer) -> None:
    assert model.shape.paged_layers == (3, 7)
    assert len(model.shape.layers) == 8
    assert model.shape.max_context_tokens == 16384
    assert model.eos_token_ids == (tokenizer.token_to_id("<|im_end|>"),) == (2,)
    assert model.vocab_size == tokenizer.get_vocab_size()
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    assert tokenizer.token_to_id(settings["eos_token"]) == 2


def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer) -> None:
    for text in ("Hello, wörld!", "  two  spaces\n\ttab", "漢字 🙂", demo_text()):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_answers_vary_and_depend_on_the_prompt(model: LoadedModel, tokenizer: Tokenizer) -> None:
    prompts = ["Hello", "Hello!", "What is a packet?", demo_text()[:300], demo_text()[:3000]]
    answers = [greedy(rig(model), tokenizer.encode(text).ids, 24) for text in prompts]
    assert all(len(set(answer)) >= 12 for answer in answers)
    assert len({tuple(answer) for answer in answers}) == len(prompts)
    assert all(tokenizer.decode([token]).strip().isalpha() for answer in answers for token in answer)


def test_one_early_token_of_a_long_prompt_moves_the_logits(model: LoadedModel, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(demo_text()).ids[:1000]
    changed = [*ids[:10], 777, *ids[11:]]
    before, after = (forward(rig(model), [Part(0, prompt)])[0][-1:] for prompt in (ids, changed))
    assert logit_error(after, before) > 0.01


def test_same_seed_same_model(directory: Path, model: LoadedModel, tmp_path: Path) -> None:
    write_demo_model(tmp_path / "same")
    write_demo_model(tmp_path / "other", seed=1)
    assert load_model(tmp_path / "same", "float32").fingerprint == model.fingerprint
    assert load_model(tmp_path / "other", "float32").fingerprint != model.fingerprint
    assert (tmp_path / "same" / "tokenizer.json").read_bytes() == (directory / "tokenizer.json").read_bytes()


def test_writes_into_an_empty_directory_but_not_over_files(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep"
    target.mkdir(parents=True)
    write_demo_model(target)
    with pytest.raises(ModelError, match="not empty"):
        write_demo_model(target)
    assert [path.name for path in target.parent.iterdir()] == ["deep"]

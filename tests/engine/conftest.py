"""A tiny model directory whose tokenizer grammars and drawing are tested with."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.gateway import tiny_model


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer-model")
    tiny_model.write(path)
    return path


@pytest.fixture(scope="session")
def tokenizer(tiny_directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_directory / "tokenizer.json"))


@pytest.fixture(scope="session")
def eos(tokenizer: Tokenizer) -> int:
    token = tokenizer.token_to_id("<|im_end|>")
    assert token is not None
    return int(token)

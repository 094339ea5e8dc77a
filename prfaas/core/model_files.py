"""The JSON files of a Hugging Face model directory, with errors that name what is wrong. Reads no weights."""

import json
from pathlib import Path
from typing import Any

from prfaas.core.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`. Raises ModelError naming the file and the fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_config(directory: Path) -> dict[str, Any]:
    """The contents of `config.json`. Raises ModelError if there is no such directory or file."""
    if not directory.is_dir():
        raise ModelError(
            f"model directory {directory} does not exist; `prfaas demo-model {directory}` writes a small one"
        )
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} has no config.json; it is not a Hugging Face model directory")
    return read_json(directory / "config.json")

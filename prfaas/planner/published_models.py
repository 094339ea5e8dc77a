"""The published models that profiles are kept for: their `config.json`, as far as it matters here. Knows no figures."""

from pathlib import Path
from typing import Any

from prfaas.core.model_files import read_json

PUBLISHED_CONFIGS = Path(__file__).parent / "published"


def published_config(model: str) -> dict[str, Any]:
    """By its name, e.g. `Ring-2.5-1T`."""
    return read_json(PUBLISHED_CONFIGS / f"{model}.json")

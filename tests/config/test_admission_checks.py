"""Keys and origins that a fleet file cannot have."""

from pathlib import Path

import pytest

from prfaas.config.load import load
from prfaas.core.errors import ConfigError
from tests.config.test_load import GOOD, fails, write

DIGEST = "0123456789abcdef" * 4
OTHER = DIGEST[::-1]


def keys(*pairs: tuple[str, str]) -> str:
    entries = ", ".join(f"{{name: {name}, sha256: '{digest}'}}" for name, digest in pairs)
    return GOOD + f"admission: {{api_keys: [{entries}]}}\n"


def test_keys_of_two_tenants(tmp_path: Path) -> None:
    config = load(write(tmp_path, keys(("a", DIGEST), ("b", OTHER))))
    assert [key.name for key in config.admission.api_keys] == ["a", "b"]


def test_two_tenants_of_one_name_or_one_key(tmp_path: Path) -> None:
    message = fails(tmp_path, keys(("a", DIGEST), ("a", OTHER), ("b", DIGEST)))
    assert "admission.api_keys.1.name: two API keys are named 'a'; rename one" in message
    assert "admission.api_keys.2.sha256: 'b' has another tenant's key; make one with `prfaas key`" in message


def test_a_key_in_the_place_of_its_digest(tmp_path: Path) -> None:
    assert "admission.api_keys.0.sha256" in fails(tmp_path, keys(("a", "sk-prfaas-abc")))


@pytest.mark.parametrize("origin", ["*", "https://chat.example", "http://127.0.0.1:3000", "http://[::1]:80"])
def test_origins(tmp_path: Path, origin: str) -> None:
    assert load(write(tmp_path, GOOD + f"router: {{cors_origins: ['{origin}']}}\n")).router.cors_origins == (origin,)


@pytest.mark.parametrize("origin", ["chat.example", "https://chat.example/", "https://", "https://*.example", "ws://a"])
def test_what_is_no_origin(tmp_path: Path, origin: str) -> None:
    with pytest.raises(ConfigError, match=r"router\.cors_origins\.0: '.*' is no origin: write https://HOST"):
        load(write(tmp_path, GOOD + f"router: {{cors_origins: ['{origin}']}}\n"))

"""A new API key, and the lines of a fleet file that let it in. The key itself is kept nowhere."""

import hashlib
import secrets
from dataclasses import dataclass

import msgspec
from pydantic import ValidationError

from prfaas.config.sections import ApiKeySection, Priority
from prfaas.core.errors import ConfigError

KEY_BYTES = 32
PREFIX = "sk-prfaas-"
"""By which people, and programs that search for leaked secrets, tell what it is."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """`key` is for the client, `section` for the fleet file."""

    key: str
    section: ApiKeySection


def new_key(name: str, priority: Priority = "interactive") -> NewKey:
    """256 random bits. Raises ConfigError for a name that a fleet file cannot have."""
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    try:
        section = ApiKeySection(name=name, sha256=hashlib.sha256(key.encode()).hexdigest(), priority=priority)
    except ValidationError:
        raise ConfigError(
            f"{name!r} cannot name a key: it takes lower-case letters, digits and hyphens between them, 63 at most"
        ) from None
    return NewKey(key, section)


def as_text(made: NewKey) -> str:
    """The key, and YAML to paste."""
    priority = f"\n      priority: {made.section.priority}" if made.section.priority != "interactive" else ""
    return (
        f"{made.key}\n\nThis is shown once. Add to the fleet file, and restart the routers:\n\n"
        f"admission:\n  api_keys:\n    - name: {made.section.name}\n      sha256: {made.section.sha256}{priority}"
    )


def as_json(made: NewKey) -> str:
    """The same for programs."""
    section = {"name": made.section.name, "sha256": made.section.sha256, "priority": made.section.priority}
    return msgspec.json.encode({"key": made.key, "api_key": section}).decode()

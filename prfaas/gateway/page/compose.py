"""Puts the page together, and names in its Content-Security-Policy the only style and script that may run in it."""

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

SCRIPTS = ("text.js", "spark.js", "model.js", "topology.js", "panels.js", "placements.js", "main.js")
"""In the order in which they need each other."""
STYLES = ("colours.css", "layout.css", "parts.css")


@dataclass(frozen=True, slots=True)
class Page:
    """`headers` let it load nothing but its own events, from where it came."""

    body: bytes
    headers: dict[str, str]

    @classmethod
    def load(cls) -> "Page":
        """Reads the files of this package."""
        style, script = _joined(STYLES), _joined(SCRIPTS)
        body = _read("page.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
        policy = (
            f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return cls(
            body.encode(),
            {
                "content-security-policy": policy,
                "cache-control": "no-cache",
                "referrer-policy": "no-referrer",
                "x-content-type-options": "nosniff",
            },
        )


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join(_read(name) for name in names)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

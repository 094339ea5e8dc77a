"""The text that the demo model's tokenizer is trained on, and that the demo's prompts quote. Imports no torch."""

from importlib.resources import files


def demo_text() -> str:
    """A short history of messages over long distances, in sections that start with `# Title`."""
    return (files("prfaas.models") / "data" / "demo_text.txt").read_text(encoding="utf-8")

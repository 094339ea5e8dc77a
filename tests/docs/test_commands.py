"""What documents tell a reader to type exists: commands and options of `prfaas`; and each command is told of."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from prfaas.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^(?:\.venv/bin/)?prfaas ([^#\n]*)")
SPOKEN = re.compile(r"`prfaas ([a-z][^`]*)`")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, TyperGroup):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))
"""By their words."""


def lines(document: Path) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return [line for block in BLOCK.findall(text) for line in typed(block)] + SPOKEN.findall(text)


def typed(block: str) -> list[str]:
    """Where a prompt stands before what is typed, the rest is what was answered."""
    prompted = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return [match[1] for line in prompted or block.splitlines() if (match := TYPED.match(line))]


def command_of(words: list[str]) -> tuple[str, ...]:
    return next((path for path in (tuple(words[:2]), tuple(words[:1])) if path in COMMANDS), ())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_command_that_is_told_exists_with_its_options(document: Path) -> None:
    groups = {path[0] for path in COMMANDS if len(path) > 1}
    for line in lines(document):
        words = shlex.split(line)
        path = command_of(words)
        assert path or words[0] in groups, f"`prfaas {line}` is no command"
        known = {option for p in COMMANDS[path].params for option in (*p.opts, *p.secondary_opts)} if path else set()
        told = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert told <= known | {"--help"}, f"`prfaas {line}` has options that are not there"


def test_every_command_is_told_of() -> None:
    told = {command_of(shlex.split(line)) for document in DOCUMENTS for line in lines(document)}
    assert set(COMMANDS) - told == set()

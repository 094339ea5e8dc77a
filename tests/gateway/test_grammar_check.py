"""Grammars are compiled beside the event loop, one at a time, and what is wrong is the client's to read."""

import asyncio
import threading
from pathlib import Path

import pytest
from llguidance import LLMatcher

from prfaas.core.request import Grammar, GrammarKind
from prfaas.engine.grammar import GrammarCompiler
from prfaas.gateway.errors import ApiError
from prfaas.gateway.grammar_check import GrammarCheck

GOOD = Grammar(GrammarKind.REGEX, "a+")


class WatchedCompiler(GrammarCompiler):
    """Notes who compiles, and how many at once."""

    def __init__(self, tokenizer_json: Path) -> None:
        super().__init__(tokenizer_json)
        self.threads: set[threading.Thread] = set()
        self.most = self._now = 0

    def compile(self, grammar: Grammar) -> LLMatcher:
        self.threads.add(threading.current_thread())
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return super().compile(grammar)
        finally:
            self._now -= 1


async def test_one_at_a_time_and_never_on_the_event_loop(model: Path) -> None:
    compiler = WatchedCompiler(model / "tokenizer.json")
    check = GrammarCheck(compiler)
    await asyncio.gather(*(check.check(Grammar(GrammarKind.REGEX, "a" * i), "f") for i in range(1, 20)))
    assert compiler.most == 1
    assert threading.main_thread() not in compiler.threads


async def test_a_refusal_names_the_field_and_does_not_block_the_next(model: Path) -> None:
    check = GrammarCheck(GrammarCompiler(model / "tokenizer.json"))
    with pytest.raises(ApiError, match="response_format: the regex") as refused:
        await check.check(Grammar(GrammarKind.REGEX, "a["), "response_format")
    assert (refused.value.status, refused.value.param) == (400, "response_format")
    await check.check(GOOD, "response_format")


async def test_a_tokenizer_that_cannot_be_used_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"tokenizer\.json cannot be used with grammars") as refused:
        await GrammarCheck(GrammarCompiler(tmp_path / "tokenizer.json")).check(GOOD, "structured_outputs")
    assert refused.value.status == 400

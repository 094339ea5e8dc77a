"""Compiles grammars for one tokenizer, with llguidance. Knows no logits, no requests and no torch."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from prfaas.core.errors import ModelError, RequestError
from prfaas.core.request import Grammar, GrammarKind

CACHED_GRAMMARS = 128
MAX_REASON_CHARS = 300
ANY_OBJECT = '{"type":"object"}'

_LIMITS = LLParserLimits(max_grammar_size=100_000, verbose_errors=False)
"""Compiling and each later mask stay in the order of 0.1 s at worst; the rest are llguidance's own limits."""


class GrammarCompiler:
    """Any thread may ask; the tokenizer is read when the first grammar comes, which takes up to a second."""

    def __init__(self, tokenizer_json: Path, eos_token_ids: Sequence[int] | None = None) -> None:
        """`eos_token_ids` end an answer; None, for a compiler that only checks grammars: what the file suggests."""
        self._file = tokenizer_json
        self._eos_token_ids = None if eos_token_ids is None else sorted(eos_token_ids)
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the grammar's beginning, the caller's own.

        Raises RequestError for a grammar that is malformed, unsatisfiable or too complex, ModelError for a tokenizer
        that llguidance cannot use.
        """
        with self._lock:
            matcher = self._compiled.get(grammar)
            if matcher is None:
                matcher = _compile(self._load(), grammar)
                self._compiled[grammar] = matcher
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > CACHED_GRAMMARS:
                self._compiled.popitem(last=False)
            return matcher.deep_copy()

    def _load(self) -> LLTokenizer:
        if self._eos_token_ids == []:
            raise ModelError("the model names no EOS token, so an answer in a grammar could not end")
        if self._tokenizer is None:
            try:
                text = self._file.read_text(encoding="utf-8")
                self._tokenizer = LLTokenizer(text, eos_token=self._eos_token_ids)
            except (OSError, ValueError) as error:
                raise ModelError(f"{self._file.name} cannot be used with grammars: {_short(error)}") from error
        return self._tokenizer


def _compile(tokenizer: LLTokenizer, grammar: Grammar) -> LLMatcher:
    try:
        matcher = LLMatcher(tokenizer, _source(grammar), log_level=0, limits=_LIMITS)
    except ValueError as error:
        raise RequestError(f"the {grammar.kind} cannot be read: {_short(error)}") from None
    if matcher.is_error():
        raise RequestError(f"the {grammar.kind} cannot be followed: {_short(matcher.get_error())}")
    return matcher


def _source(grammar: Grammar) -> str:
    """What llguidance compiles. Raises ValueError for a schema that is no JSON."""
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            return _json(grammar.text)
        case GrammarKind.JSON_OBJECT:
            return _json(ANY_OBJECT)
        case GrammarKind.REGEX:
            return LLMatcher.grammar_from_regex(grammar.text)


def _json(schema: str) -> str:
    """At most one space where JSON lets whitespace be: unbounded, it would let a model never come to its point."""
    return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": r"\x20", "lenient": False})


def _short(reason: object) -> str:
    text = " ".join(str(reason).split())
    return text if len(text) <= MAX_REASON_CHARS else f"{text[:MAX_REASON_CHARS]}…"

"""Compiles grammars for one tokenizer, with llguidance. Knows no logits, no requests and no torch."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from prfaas.core.errors import ModelError, RequestError
from prfaas.core.request import Grammar, GrammarKind
from prfaas.engine.grammar_mask import GrammarMask

CACHED_GRAMMARS = 128
MAX_REASON_CHARS = 300
_DEAD_END = "NoExtensionBias"
"""All that llguidance says where no token, nor the end, can come."""
ANY_OBJECT = '{"type":"object"}'

_LIMITS = LLParserLimits(max_grammar_size=100_000, initial_lexer_fuel=100_000, verbose_errors=False)
"""Compiling and each later mask stay in the order of 0.1 s at worst; the rest are llguidance's own limits."""


class GrammarCompiler:
    """Any thread may ask; the tokenizer is read when the first grammar comes, which takes up to a second."""

    def __init__(self, tokenizer_json: Path, eos_token_ids: Sequence[int] | None = None) -> None:
        """`eos_token_ids` end an answer; None, for a compiler that only checks grammars: what the file suggests."""
        self._file = tokenizer_json
        self._eos_token_ids = None if eos_token_ids is None else sorted(eos_token_ids)
        self._tokenizer: tuple[LLTokenizer, GrammarMask] | None = None
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        """Of what is compiled; nobody compiles while holding it, since the step loop asks too."""

    def compile(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the grammar's beginning, the caller's own.

        Raises RequestError for a grammar that is malformed, unsatisfiable or too complex, ModelError for a tokenizer
        that llguidance cannot use.
        """
        with self._lock:
            matcher = self._compiled.get(grammar)
        if matcher is None:
            matcher = _compile(*self._load(), grammar)
        with self._lock:
            self._compiled[grammar] = matcher
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > CACHED_GRAMMARS:
                self._compiled.popitem(last=False)
        return matcher.deep_copy()

    def allowed(self, matcher: LLMatcher, vocab_size: int) -> NDArray[np.bool_]:
        """[V], true for tokens that may come next; all false where nothing can."""
        _, mask = self._load()
        allowed = mask.next(matcher, vocab_size)
        return np.zeros_like(allowed) if matcher.is_error() else allowed

    def drop(self, grammar: Grammar) -> None:
        """Has a grammar compiled anew next time: copies of a matcher share a lexer, which can run into its limits."""
        with self._lock:
            self._compiled.pop(grammar, None)

    def _load(self) -> tuple[LLTokenizer, GrammarMask]:
        if self._eos_token_ids == []:
            raise ModelError("the model names no EOS token, so an answer in a grammar could not end")
        with self._loading:
            if self._tokenizer is None:
                try:
                    text = self._file.read_text(encoding="utf-8")
                    tokenizer = LLTokenizer(text, eos_token=self._eos_token_ids)
                except (OSError, ValueError) as error:
                    raise ModelError(f"{self._file.name} cannot be used with grammars: {_short(error)}") from error
                self._tokenizer = tokenizer, GrammarMask(tokenizer, self._eos_token_ids)
            return self._tokenizer


def reason(matcher: LLMatcher) -> str:
    """Why nothing can follow."""
    error = matcher.get_error().partition("\n<")[0]
    if error == _DEAD_END:
        return "nothing that is left satisfies it"
    return _short(error or "the tokenizer has no text for what must come next")


def _compile(tokenizer: LLTokenizer, mask: GrammarMask, grammar: Grammar) -> LLMatcher:
    try:
        matcher = LLMatcher(tokenizer, _source(grammar), log_level=0, limits=_LIMITS)
    except ValueError as error:
        raise RequestError(f"the {grammar.kind} cannot be read: {_short(error)}") from None
    obstacle = reason(matcher) if matcher.is_error() else _obstacle(matcher.deep_copy(), tokenizer, mask)
    if obstacle:
        raise RequestError(f"the {grammar.kind} cannot be followed: {obstacle}")
    return matcher


def _obstacle(matcher: LLMatcher, tokenizer: LLTokenizer, mask: GrammarMask) -> str | None:
    """Why no answer can begin; much is found unsatisfiable, or too complex, only when tokens are asked for."""
    first = mask.next(matcher)
    if matcher.is_error() or not first.any():
        return reason(matcher)
    text = next((int(i) for i in np.flatnonzero(first) if not tokenizer.is_special_token(int(i))), None)
    if text is not None:
        matcher.consume_token(text)
        mask.next(matcher)
    return reason(matcher) if matcher.is_error() else None


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

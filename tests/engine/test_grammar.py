"""Grammars over a real tokenizer: what may come next, resuming, ends, and refusals."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from prfaas.core.errors import EngineError, ModelError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Grammar, GrammarKind
from prfaas.engine import grammar as grammar_module
from prfaas.engine.grammar import GrammarCompiler
from prfaas.engine.grammar_states import GrammarStates

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"kind": {"enum": ["fox", "dog"]}, "age": {"type": "integer", "minimum": 0, "maximum": 30}},
    "required": ["kind", "age"],
    "additionalProperties": False,
}
GRAMMAR = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))
PADDED_VOCAB = 320
R = RequestId("r")


@pytest.fixture
def states(tiny_directory: Path, eos: int) -> GrammarStates:
    return GrammarStates(GrammarCompiler(tiny_directory / "tokenizer.json", [eos]))


def ids_allowed(states: GrammarStates, output: list[int], grammar: Grammar = GRAMMAR) -> set[int]:
    mask = states.allowed(R, grammar, output, PADDED_VOCAB)
    assert mask.shape == (PADDED_VOCAB,)
    return set(np.flatnonzero(mask).tolist())


def walk(states: GrammarStates, eos: int, seed: int, grammar: Grammar = GRAMMAR) -> list[int]:
    """Draws at random among what is allowed, until EOS."""
    random = np.random.default_rng(seed)
    output: list[int] = []
    while True:
        token = int(random.choice(sorted(ids_allowed(states, output, grammar))))
        if token == eos:
            return output
        output.append(token)
        assert len(output) < 300


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_drawn_follows_the_schema(states: GrammarStates, tokenizer: Tokenizer, eos: int, seed: int) -> None:
    text = tokenizer.decode(walk(states, eos, seed))
    found = json.loads(text)
    assert set(found) == {"kind", "age"}
    assert found["kind"] in ("fox", "dog")
    assert 0 <= found["age"] <= 30
    assert "  " not in text, "whitespace without bound would let an answer never end"
    states.forget(R)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [(Grammar(GrammarKind.JSON_OBJECT), '{"a":[1,"b"]}'), (Grammar(GrammarKind.REGEX, "(ab|c)+"), "abcab")],
)
def test_other_kinds_of_grammar(
    states: GrammarStates, tokenizer: Tokenizer, eos: int, grammar: Grammar, text: str
) -> None:
    ids = tokenizer.encode(text).ids
    for i, token in enumerate(ids):
        assert token in ids_allowed(states, ids[:i], grammar)
    assert eos in ids_allowed(states, ids, grammar)
    assert eos not in ids_allowed(states, [], grammar)


def test_eos_is_allowed_only_where_the_grammar_accepts(states: GrammarStates, tokenizer: Tokenizer, eos: int) -> None:
    ids = tokenizer.encode('{"kind":"fox","age":3').ids
    for i in range(len(ids) + 1):
        assert eos not in ids_allowed(states, ids[:i])
    complete = [*ids, *tokenizer.encode("}").ids]
    assert ids_allowed(states, complete) == {eos}, "after the end there is nothing but the end"


def test_a_request_that_turns_up_with_output_goes_on_as_if_it_had_been_here(
    tiny_directory: Path, states: GrammarStates, tokenizer: Tokenizer, eos: int
) -> None:
    ids = tokenizer.encode('{"kind": "dog", "age": 12}').ids
    stepwise = [ids_allowed(states, ids[:i]) for i in range(len(ids) + 1)]
    for i, expected in enumerate(stepwise):
        fresh = GrammarStates(GrammarCompiler(tiny_directory / "tokenizer.json", [eos]))
        assert ids_allowed(fresh, ids[:i]) == expected
    assert ids_allowed(states, ids[:2]) == stepwise[2], "recomputed from an earlier point"
    assert ids_allowed(states, ids[:5]) == stepwise[5], "several tokens at once"


def test_requests_with_one_grammar_do_not_share_their_place(states: GrammarStates, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode('{"kind"').ids
    first = ids_allowed(states, [])
    states.allowed(RequestId("other"), GRAMMAR, ids, PADDED_VOCAB)
    assert ids_allowed(states, []) == first
    assert len(states) == 2
    states.forget(RequestId("other"))
    states.forget(R)
    states.forget(R)
    assert len(states) == 0


def test_output_that_left_the_grammar_is_a_typed_error(states: GrammarStates, tokenizer: Tokenizer) -> None:
    with pytest.raises(EngineError, match="does not follow its json_schema"):
        ids_allowed(states, tokenizer.encode("once upon").ids)
    with pytest.raises(EngineError):
        ids_allowed(states, tokenizer.encode("once upon").ids)


def test_a_vocabulary_without_the_needed_token_is_a_dead_end(states: GrammarStates) -> None:
    """The model's own vocabulary may be smaller than its tokenizer's."""
    with pytest.raises(EngineError, match="no token can follow"):
        states.allowed(R, GRAMMAR, [], 2)


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (Grammar(GrammarKind.JSON_SCHEMA, '{"type":"widget"}'), "widget"),
        (Grammar(GrammarKind.JSON_SCHEMA, "{"), "cannot be read"),
        (Grammar(GrammarKind.JSON_SCHEMA, "[]"), "cannot be read"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"type":"integer","minimum":5,"maximum":2}'), "nsatisfiable"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"not":{}}'), "not"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"not":{},"x-guidance":{"lenient":true}}'), "not"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"$ref":"#/nowhere"}'), "nowhere"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"type":"array","items":' * 400 + "{}" + "}" * 400), "ecursion"),
        (Grammar(GrammarKind.REGEX, "a["), "regex"),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"$ref":"#"}'), "nothing that is left satisfies it"),
        (Grammar(GrammarKind.REGEX, r"[^\s\S]"), "nothing that is left satisfies it"),
        (Grammar(GrammarKind.REGEX, "(a{1000}){1000}"), "too many expressions"),
        (Grammar(GrammarKind.REGEX, r"<\|im_end\|>"), "no text for what must come next"),
    ],
)
def test_what_cannot_be_compiled_says_why(states: GrammarStates, grammar: Grammar, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        states.compiler.compile(grammar)
    assert len(str(refused.value)) < grammar_module.MAX_REASON_CHARS + 60


def test_a_special_token_is_no_way_to_write_its_name(states: GrammarStates, tokenizer: Tokenizer) -> None:
    """As an end it would leave half an answer that claims to be whole; any other special token would have no text."""
    for name in ("<|im_end|>", "<|im_start|>"):
        grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps({"const": f"a {name}"}))
        ids = tokenizer.encode('"a ').ids
        special = tokenizer.token_to_id(name)
        assert all(special not in ids_allowed(states, ids[:i], grammar) for i in range(len(ids)))
        with pytest.raises(EngineError, match="no text for what must come next"):
            ids_allowed(states, ids, grammar)
        states.forget(R)


def test_a_lexer_at_its_limits_is_not_kept(states: GrammarStates, tokenizer: Tokenizer) -> None:
    """Copies of a matcher share it, so one request would spoil the grammar for all that follow."""
    properties = {"a": {"type": "boolean"}, "b": {"type": "string", "pattern": "^(a{1000}){1000}$"}}
    schema = {"type": "object", "properties": properties, "required": ["a", "b"]}
    grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema))
    ids = tokenizer.encode('{"a":true,"b":"a').ids

    def write() -> None:
        for i in range(len(ids) + 1):
            ids_allowed(states, ids[:i], grammar)

    with pytest.raises(EngineError, match="too many expressions"):
        write()
    assert states.allowed(RequestId("other"), grammar, [], PADDED_VOCAB).any()


def test_an_empty_answer_can_follow_a_grammar(states: GrammarStates, eos: int) -> None:
    assert ids_allowed(states, [], Grammar(GrammarKind.REGEX, "^$")) == {eos}


def test_a_grammar_that_nobody_waits_for_is_not_compiled(states: GrammarStates) -> None:
    states.compiler.compile(GRAMMAR)  # reads the tokenizer
    slow = threading.Event()
    states._thread.submit(slow.wait)
    unwanted = Grammar(GrammarKind.REGEX, "unwanted")
    states.prepare(R, unwanted)
    states.forget(R)
    slow.set()
    states._thread.shutdown(wait=True)
    assert unwanted not in states.compiler._compiled


def test_a_grammar_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(RequestError, match="65536"):
        Grammar(GrammarKind.REGEX, "é" * 40_000)


def test_grammars_are_kept_but_not_without_end(
    tiny_directory: Path, eos: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grammar_module, "CACHED_GRAMMARS", 3)
    compiler = GrammarCompiler(tiny_directory / "tokenizer.json", [eos])
    threads = [
        threading.Thread(target=compiler.compile, args=(Grammar(GrammarKind.REGEX, "a" * (i % 5 + 1)),))
        for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiler._compiled) == 3
    assert capfd.readouterr() == ("", "")


def test_a_model_that_grammars_cannot_be_used_with(tmp_path: Path, tiny_directory: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        GrammarCompiler(tmp_path / "tokenizer.json", [1]).compile(GRAMMAR)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        GrammarCompiler(tmp_path / "tokenizer.json", [1]).compile(GRAMMAR)
    with pytest.raises(ModelError, match="EOS"):
        GrammarCompiler(tiny_directory / "tokenizer.json", []).compile(GRAMMAR)

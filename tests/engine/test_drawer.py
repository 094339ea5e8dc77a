"""What a step draws for sequences with rules of their own: bans, counts, grammars, logprobs, faults, and forgetting."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from prfaas.core.errors import EngineError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Grammar, GrammarKind, Request, SamplingParams
from prfaas.engine.drawer import Drawer, build_drawer
from prfaas.scheduler.sequence import Mode, Sequence

YES_NO = Grammar(GrammarKind.REGEX, "yes|no")


@pytest.fixture
def drawer(tiny_directory: Path, eos: int) -> Drawer:
    return build_drawer(tiny_directory, (eos,))


def sequence(name: str = "r", output: list[int] | None = None, **rules: Any) -> Sequence:
    params = SamplingParams(**{"max_tokens": 50, "temperature": 0.0, **rules})
    made = Sequence(Request(RequestId(name), (1, 2, 3), params), Mode.SERVE)
    made.output_token_ids.extend(output or [])
    return made


def logits_for(*best: int, vocab: int = 320) -> torch.Tensor:
    """Each row's best token is the one given, the next best its successor."""
    logits = torch.linspace(0, -1, vocab).repeat(len(best), 1)
    for row, token in enumerate(best):
        logits[row, token], logits[row, token + 1] = 9.0, 8.0
    return logits


def generate(drawer: Drawer, made: Sequence, eos: int, logits: torch.Tensor) -> list[int]:
    while True:
        token = drawer.draw(logits, [made]).tokens[made.request_id]
        if token == eos:
            return made.output_token_ids
        made.output_token_ids.append(token)


def test_neither_eos_nor_stop_tokens_come_before_min_tokens(drawer: Drawer, eos: int) -> None:
    rules: dict[str, Any] = {"min_tokens": 2, "stop_token_ids": frozenset({eos + 1, 9999})}
    first = drawer.draw(logits_for(eos), [sequence(output=[5], **rules)]).tokens[RequestId("r")]
    assert first not in (eos, eos + 1)
    assert drawer.draw(logits_for(eos), [sequence(output=[5, 6], **rules)]).tokens == {"r": eos}
    assert drawer.draw(logits_for(eos), [sequence(min_tokens=2, ignore_eos=True)]).tokens == {"r": eos}


def test_penalties_count_what_came_before(drawer: Drawer) -> None:
    made = sequence(frequency_penalty=1.0)
    drawn = []
    for _ in range(4):
        drawn.append(drawer.draw(logits_for(40), [made]).tokens[made.request_id])
        made.output_token_ids.append(drawn[-1])
    assert drawn == [40, 40, 41, 40], "9, 8 against 8, 7 against 8 twice, 7 against 7"
    fresh = sequence(output=drawn[:3], frequency_penalty=1.0)
    drawer.forget(fresh.request_id)
    assert drawer.draw(logits_for(40), [fresh]).tokens == {"r": drawn[3]}


def test_the_prompt_counts_for_repetition_only(drawer: Drawer) -> None:
    assert drawer.draw(logits_for(2), [sequence(repetition_penalty=2.0)]).tokens == {"r": 2}, "4.5 against 4"
    assert drawer.draw(logits_for(3), [sequence(repetition_penalty=2.0)]).tokens == {"r": 4}, "4.5 against 8"
    assert drawer.draw(logits_for(3), [sequence(presence_penalty=2.0)]).tokens == {"r": 3}


def test_a_grammar_is_followed_and_neighbours_are_not_touched(drawer: Drawer, tokenizer: Tokenizer, eos: int) -> None:
    bound, free = sequence("bound", grammar=YES_NO), sequence("free", temperature=1.0, seed=3)
    y = tokenizer.encode("y").ids[0]
    logits = torch.cat([logits_for(y), logits_for(7)])
    together = drawer.draw(logits, [bound, free])
    assert together.tokens == {"bound": y, "free": drawer.draw(logits[1:], [free]).tokens[RequestId("free")]}
    text = tokenizer.decode(generate(drawer, bound, eos, logits[:1]))
    assert text == "yes"


def test_a_grammar_that_cannot_be_compiled_fails_its_request_alone(drawer: Drawer) -> None:
    bad = sequence("bad", grammar=Grammar(GrammarKind.JSON_SCHEMA, '{"type":"widget"}'))
    for prepared in (False, True):
        if prepared:
            drawer.prepare(bad)
        drawn = drawer.draw(logits_for(5, 7), [bad, sequence("good")])
        assert drawn.tokens == {"good": 7}
        assert isinstance(drawn.faults[RequestId("bad")], RequestError)


def test_a_dead_end_fails_its_request_alone(drawer: Drawer) -> None:
    drawn = drawer.draw(logits_for(5, 7), [sequence("stuck", [8, 9], grammar=YES_NO), sequence("good")])
    assert drawn.tokens == {"good": 7}
    assert isinstance(drawn.faults[RequestId("stuck")], EngineError)


def test_a_bias_outside_the_vocabulary_fails_its_request_alone(drawer: Drawer) -> None:
    drawn = drawer.draw(logits_for(5, 7), [sequence("bad", logit_bias=((400, 1.0),)), sequence("good")])
    assert (drawn.tokens, list(drawn.faults)) == ({"good": 7}, ["bad"])
    assert "400" in str(drawn.faults[RequestId("bad")])
    assert drawer.draw(logits_for(5), [sequence(logit_bias=((5, -2.0),))]).tokens == {"r": 6}


@pytest.mark.parametrize("rules", [{"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 2}])
def test_a_vocabulary_of_ends_alone_fails_its_request_alone(drawer: Drawer, rules: dict[str, Any]) -> None:
    bad = sequence("bad", min_tokens=3, stop_token_ids=frozenset(range(100)), **rules)
    drawn = drawer.draw(logits_for(5, 7, vocab=100), [bad, sequence("good")])
    assert (drawn.tokens, list(drawn.faults)) == ({"good": 7}, ["bad"])
    assert isinstance(drawn.faults[RequestId("bad")], RequestError)


def test_rows_without_finite_logits(drawer: Drawer) -> None:
    logits = logits_for(5, 7)
    logits[0, 3] = float("nan")
    drawn = drawer.draw(logits, [sequence("bad", grammar=YES_NO, logprobs=1), sequence("good", logprobs=1)])
    assert (drawn.tokens, drawn.not_finite, drawn.faults) == ({"good": 7}, {"bad"}, {})
    assert set(drawn.logprobs) == {"good"}


def test_logprobs_are_the_models_own_whatever_the_rules(drawer: Drawer) -> None:
    logits = logits_for(40, 40, 40)
    rules: dict[str, Any] = {"temperature": 2.0, "top_k": 1, "logit_bias": ((41, 50.0),), "seed": 1}
    drawn = drawer.draw(logits, [sequence("a", logprobs=2, **rules), sequence("b"), sequence("c", logprobs=0)])
    expected = logits[0].log_softmax(-1)
    report = drawn.logprobs[RequestId("a")]
    assert drawn.tokens[RequestId("a")] == 41
    assert report.logprob == pytest.approx(float(expected[41]), abs=1e-6)
    assert [token for token, _ in report.top] == [40, 41]
    assert [value for _, value in report.top] == pytest.approx([float(expected[40]), float(expected[41])], abs=1e-6)
    assert drawn.logprobs[RequestId("c")].top == ()
    assert set(drawn.logprobs) == {"a", "c"}


def test_nothing_is_kept_of_a_forgotten_request(tiny_directory: Path, eos: int) -> None:
    kept = build_drawer(tiny_directory, (eos,))
    made = [sequence("a", grammar=YES_NO), sequence("b", presence_penalty=1.0), sequence("c", grammar=YES_NO)]
    kept.prepare(made[2])
    kept.draw(logits_for(5, 5), made[:2])
    for each in made:
        kept.forget(each.request_id)
        kept.forget(each.request_id)
    assert len(kept._grammars) == 0
    assert not kept._counts


def test_a_schema_is_followed_to_its_end(drawer: Drawer, tokenizer: Tokenizer, eos: int) -> None:
    schema = {"type": "array", "items": {"enum": ["fox", 1, None]}, "minItems": 2, "maxItems": 3}
    grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema))
    torch.manual_seed(4)
    for seed in range(5):
        made = sequence(f"s{seed}", temperature=1.0, seed=seed, grammar=grammar)
        found = json.loads(tokenizer.decode(generate(drawer, made, eos, torch.randn(1, 320))))
        assert 2 <= len(found) <= 3
        assert all(item in ("fox", 1, None) for item in found)


@pytest.mark.parametrize(
    "rules",
    [
        {"temperature": 1.0, "seed": 5},
        {"temperature": 1.0, "seed": 5, "top_p": 0.9, "top_k": 40},
        {"frequency_penalty": 1.0, "presence_penalty": 0.5},
        {"temperature": 0.8, "seed": 2, "repetition_penalty": 1.5, "frequency_penalty": 0.7},
        {"temperature": 1.0, "seed": 3, "min_tokens": 6},
        {"temperature": 1.0, "seed": 4, "grammar": Grammar(GrammarKind.REGEX, "[a-f]{12}")},
    ],
)
def test_an_answer_that_began_elsewhere_goes_on_as_if_it_had_begun_here(drawer: Drawer, rules: dict[str, Any]) -> None:
    logits = torch.randn(8, 320, generator=torch.Generator().manual_seed(1)) / 4
    whole = sequence("whole", **rules)
    for row in logits:
        whole.output_token_ids.append(drawer.draw(row[None], [whole]).tokens[whole.request_id])
    for came in range(1, 8):
        begun = whole.output_token_ids[:came]
        left = {**rules, "min_tokens": max(0, rules.get("min_tokens", 0) - came), "answered_tokens": came}
        params = SamplingParams(**{"max_tokens": 50 - came, "temperature": 0.0, **left})
        rest = Sequence(Request(RequestId(f"rest-{came}"), (1, 2, 3, *begun), params), Mode.SERVE)
        for row in logits[came:]:
            rest.output_token_ids.append(drawer.draw(row[None], [rest]).tokens[rest.request_id])
        assert [*begun, *rest.output_token_ids] == whole.output_token_ids

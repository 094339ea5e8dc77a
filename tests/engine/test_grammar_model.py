"""JSON schemas on a real model with random weights, through scheduler and runner: it knows no JSON and writes it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from prfaas.cache.layout import lay_out
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Grammar, GrammarKind, Request, SamplingParams
from prfaas.engine.drawer import build_drawer
from prfaas.engine.drawn import Drawn
from prfaas.engine.model_runner import ModelRunner
from prfaas.models.cache_tensors import allocate_cache
from prfaas.models.demo_model import write_demo_model
from prfaas.models.loader import LoadedModel, load_model
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode

PAGE = 16
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Brno", "Lyon", "Graz"]},
        "days": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": 12},
            "minItems": 2,
            "maxItems": 3,
        },
        "sure": {"type": "boolean"},
    },
    "required": ["city", "days", "sure"],
    "additionalProperties": False,
}
GRAMMAR = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))
FREE = [SamplingParams(max_tokens=20, temperature=0.0), SamplingParams(max_tokens=20, seed=4, top_p=0.9)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grammar-demo") / "model"
    write_demo_model(path)
    return path


@pytest.fixture(scope="module")
def model(directory: Path) -> LoadedModel:
    return load_model(directory, "float32")


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


Answers = dict[str, tuple[list[int], FinishReason | None]]


def answers(model: LoadedModel, directory: Path, prompt: list[int], asked: dict[str, SamplingParams]) -> Answers:
    """Runs all requests together to their ends."""
    state_pages = lay_out(model.shape, PAGE).state_pages
    pool = PagePool(64 + 8 * state_pages)
    scheduler = Scheduler(
        PrefixCache(pool, block_tokens=PAGE, state_pages=state_pages),
        SnapshotPolicy(PAGE),
        fingerprint=model.fingerprint,
        step_tokens=64,
        max_running=8,
        eos_token_ids=frozenset(model.eos_token_ids),
    )
    cache = allocate_cache(model.shape, pool.size, PAGE)
    runner = ModelRunner(model.decoder.forward, cache, build_drawer(directory, model.eos_token_ids))
    found: Answers = {name: ([], None) for name in asked}
    for name, sampling in asked.items():
        scheduler.add(Request(RequestId(name), tuple(prompt), sampling), Mode.SERVE)
    scheduler.admit()
    while plan := scheduler.plan():
        drawn: Drawn = runner.run(plan, lambda _: None)
        assert not drawn.faults
        assert not drawn.not_finite
        for sequence, finish in scheduler.commit(plan, drawn.tokens):
            found[sequence.request_id] = (sequence.output_token_ids, finish)
            if finish:
                runner.forget(sequence.request_id)
        scheduler.admit()
    return found


def check(text: str) -> None:
    value = json.loads(text)
    assert list(value) == ["city", "days", "sure"]
    assert value["city"] in ("Brno", "Lyon", "Graz")
    assert 2 <= len(value["days"]) <= 3
    assert all(isinstance(day, int) and 1 <= day <= 12 for day in value["days"])
    assert isinstance(value["sure"], bool)


def test_answers_follow_their_schema_and_neighbours_go_on_as_if_alone(
    directory: Path, model: LoadedModel, tokenizer: Tokenizer
) -> None:
    prompt = tokenizer.encode("What is a packet?").ids
    bound = {"greedy": SamplingParams(max_tokens=80, temperature=0.0, grammar=GRAMMAR)}
    for seed in range(4):
        bound[f"drawn-{seed}"] = SamplingParams(max_tokens=80, temperature=1.5, seed=seed, grammar=GRAMMAR)
    free = {f"free-{i}": sampling for i, sampling in enumerate(FREE)}
    together = answers(model, directory, prompt, bound | free)
    texts = []
    for name in bound:
        tokens, finish = together[name]
        assert finish is FinishReason.STOP
        texts.append(tokenizer.decode(tokens, skip_special_tokens=True))
        check(texts[-1])
    assert len(set(texts)) > 2, "seeds differ"
    alone = answers(model, directory, prompt, free)
    assert {name: together[name] for name in free} == alone


def test_an_answer_that_is_cut_by_its_limit_says_so(directory: Path, model: LoadedModel, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("What?").ids
    asked = {"short": SamplingParams(max_tokens=5, temperature=0.0, grammar=GRAMMAR)}
    tokens, finish = answers(model, directory, prompt, asked)["short"]
    assert (len(tokens), finish) == (5, FinishReason.LENGTH)
    assert tokenizer.decode(tokens).startswith('{"') or tokenizer.decode(tokens).startswith('{ "')

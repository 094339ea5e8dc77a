"""Rules of sampling through the engine's loop and its messages: they arrive whole, and what fails fails alone."""

from collections.abc import Iterator
from typing import Any

import pytest

from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Grammar, GrammarKind, Request, SamplingParams
from prfaas.engine.messages import Admitted, BeginDecode, Failed, Generated, Submit
from prfaas.scheduler.sequence import Mode
from tests.engine.test_engine import VOCAB, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Its model counts: the successor of a token has logit 1, all others 0."""
    made = Rig()
    yield made
    made.settle()
    made.stop()


def submit(rig: Rig, name: str, mode: Mode = Mode.SERVE, **rules: Any) -> None:
    params = SamplingParams(**{"max_tokens": 3, "temperature": 0.0, **rules})
    rig.link.send([Submit(Request(RequestId(name), (1, 2, 3), params), mode)])


def test_every_rule_arrives_at_the_engine(rig: Rig) -> None:
    submit(rig, "plain")
    assert rig.tokens("plain")[0] == [4, 5, 6]
    submit(rig, "biased", logit_bias=((50, 2.0), (51, 5.0)), frequency_penalty=2.0)
    assert rig.tokens("biased")[0] == [51, 51, 50], "5, then 3, then 1 and 1 more as a successor against 2"
    submit(rig, "banned", logit_bias=((99, 50.0),), min_tokens=2)
    assert rig.tokens("banned") == ([4, 5, 99], FinishReason.STOP)
    submit(rig, "stopped", stop_token_ids=frozenset({5}))
    assert rig.tokens("stopped") == ([4, 5], FinishReason.STOP)
    submit(rig, "drawn", temperature=1.0, top_k=1, top_p=0.5, min_p=0.1, seed=2**63 - 1, presence_penalty=0.1)
    assert rig.tokens("drawn")[0] == [4, 5, 6]


def test_logprobs_come_with_their_tokens(rig: Rig) -> None:
    submit(rig, "told", logprobs=2)
    submit(rig, "silent")
    for expected in (4, 5, 6):
        event = rig.until("told", Generated)
        assert event.token_id == expected
        assert event.logprobs
        assert event.logprobs.top[0] == (expected, event.logprobs.logprob)
        assert event.logprobs.top[1][1] == pytest.approx(event.logprobs.logprob - 1)
    submit(rig, "later")
    assert rig.until("later", Generated).logprobs is None


def test_a_first_token_from_elsewhere_has_none(rig: Rig) -> None:
    submit(rig, "import", Mode.IMPORT, logprobs=1)
    rig.until("import", Admitted)
    rig.link.send([BeginDecode(RequestId("import"), 50)])
    first, second = rig.until("import", Generated), rig.until("import", Generated)
    assert (first.token_id, first.logprobs) == (50, None)
    assert (second.token_id, bool(second.logprobs)) == (51, True)
    rig.tokens("import")


@pytest.mark.parametrize(
    ("rules", "code", "words"),
    [
        ({"logit_bias": ((VOCAB, 1.0),)}, "invalid_request", "logit_bias"),
        # This rig's model has no tokenizer.
        ({"grammar": Grammar(GrammarKind.JSON_OBJECT)}, "model_invalid", "tokenizer"),
    ],
)
def test_a_request_whose_rules_cannot_be_followed_fails_alone(
    rig: Rig, rules: dict[str, Any], code: str, words: str
) -> None:
    submit(rig, "bad", **rules)
    submit(rig, "good")
    failed = rig.until("bad", Failed)
    assert (failed.code, failed.reason) == (code, None), "the request is at fault, not the engine"
    assert words in failed.message
    submit(rig, "later")
    assert rig.tokens("later")[0] == [4, 5, 6]

"""Requests refuse what cannot be served."""

from typing import Any

import pytest

from prfaas.core.errors import RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Grammar, GrammarKind, Request, SamplingParams


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 2**31}, "top_k"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logit_bias": ((1, 101.0),)}, "logit_bias"),
        ({"logit_bias": ((1, float("nan")),)}, "logit_bias"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((2, 1.0), (2, 1.0))}, "logit_bias"),
        ({"logit_bias": tuple((i, 1.0) for i in range(1025))}, "logit_bias"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"stop_token_ids": frozenset({-1})}, "stop_token_ids"),
        ({"stop_token_ids": frozenset(range(257))}, "stop_token_ids"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 11}, "min_tokens"),
        ({"min_tokens": 1, "grammar": Grammar(GrammarKind.JSON_OBJECT)}, "min_tokens"),
        ({"ignore_eos": True, "grammar": Grammar(GrammarKind.JSON_OBJECT)}, "ignore_eos"),
    ],
)
def test_bad_sampling_names_the_field(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named):
        SamplingParams(**{"max_tokens": 10, **kwargs})


@pytest.mark.parametrize(
    "kwargs",
    [{"top_k": 0}, {"top_k": -1}, {"min_tokens": 10}, {"logprobs": 0}, {"logprobs": 20}, {"repetition_penalty": 0.01}],
)
def test_the_ends_of_the_ranges_are_allowed(kwargs: dict[str, Any]) -> None:
    params = SamplingParams(**{"max_tokens": 10, **kwargs})
    assert {name: getattr(params, name) for name in kwargs} == kwargs


@pytest.mark.parametrize(
    ("kwargs", "special"),
    [
        ({}, False),
        ({"temperature": 0.0, "top_p": 0.5, "logprobs": 3}, False),
        ({"repetition_penalty": 1.1}, True),
        ({"presence_penalty": -0.5}, True),
        ({"min_tokens": 1}, True),
        ({"grammar": Grammar(GrammarKind.JSON_OBJECT)}, True),
    ],
)
def test_which_rules_need_more_than_logits(kwargs: dict[str, Any], special: bool) -> None:
    assert SamplingParams(max_tokens=10, **kwargs).special is special


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(RequestError, match="no tokens"):
        Request(RequestId("r"), (), SamplingParams(max_tokens=1))


def test_the_last_token_is_never_cached() -> None:
    request = Request(RequestId("r"), (1, 2, 3), SamplingParams(max_tokens=4))
    assert request.max_total_tokens == 6

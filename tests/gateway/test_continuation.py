"""The rest of a request is the request, with its tokens so far moved into the prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.gateway.continuation import continued

TOKENS = st.lists(st.integers(0, 99), min_size=1, max_size=20)


@given(prompt=TOKENS, answer=TOKENS, more=st.integers(1, 20), min_tokens=st.integers(0, 20), cut=st.integers(0, 20))
def test_what_is_left_is_what_was_asked_for(
    prompt: list[int], answer: list[int], more: int, min_tokens: int, cut: int
) -> None:
    sampling = SamplingParams(len(answer) + more, seed=7, min_tokens=min(min_tokens, len(answer) + more))
    request = Request(RequestId("r"), tuple(prompt), sampling, cache_salt="s")
    rest = continued(request, answer)
    assert rest.prompt_token_ids == (*prompt, *answer)
    assert rest.answered_token_ids == tuple(answer)
    assert rest.max_total_tokens == request.max_total_tokens
    assert rest.sampling.max_tokens == more
    assert len(answer) + rest.sampling.min_tokens == max(len(answer), sampling.min_tokens)
    assert (rest.request_id, rest.cache_salt, rest.sampling.seed) == ("r", "s", 7)
    assert continued(continued(request, answer[:cut]), answer[cut:]) == rest
    assert continued(request, []) is request


def test_an_answer_needs_a_prompt_before_it() -> None:
    for answered in (3, 4, -1):
        with pytest.raises(RequestError, match="answered_tokens"):
            Request(RequestId("r"), (1, 2, 3), SamplingParams(5, answered_tokens=answered))

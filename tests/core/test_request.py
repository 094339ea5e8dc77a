"""Requests refuse what cannot be served."""

import pytest

from prfaas.core.errors import RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "temperature": -0.1}, "temperature"),
        ({"max_tokens": 1, "temperature": float("nan")}, "temperature"),
        ({"max_tokens": 1, "top_p": 0.0}, "top_p"),
        ({"max_tokens": 1, "seed": -1}, "seed"),
        ({"max_tokens": 1, "seed": 2**63}, "seed"),
    ],
)
def test_bad_sampling_names_the_field(kwargs: dict[str, float], named: str) -> None:
    with pytest.raises(RequestError, match=named):
        SamplingParams(**kwargs)  # type: ignore[arg-type] # the point of the test


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(RequestError, match="no tokens"):
        Request(RequestId("r"), (), SamplingParams(max_tokens=1))


def test_the_last_token_is_never_cached() -> None:
    request = Request(RequestId("r"), (1, 2, 3), SamplingParams(max_tokens=4))
    assert request.max_total_tokens == 6

"""What class a request says it has: by its header, or by OpenAI's service tier."""

import pytest
from starlette.requests import Request

from prfaas.gateway import parse
from prfaas.gateway.errors import ApiError
from prfaas.gateway.responses_body import ResponsesBody


def said(header: str | None, tier: str | None) -> str | None:
    headers = [] if header is None else [(b"x-prfaas-priority", header.encode())]
    body = ResponsesBody.model_validate({"model": "m", "input": "x", "service_tier": tier})
    return parse.priority(Request({"type": "http", "headers": headers}), body)


@pytest.mark.parametrize(
    ("header", "tier", "expected"),
    [
        (None, None, None),
        (None, "auto", None),
        (None, "default", None),
        (None, "flex", "batch"),
        ("batch", None, "batch"),
        ("batch", "flex", "batch"),
        ("batch", "default", "batch"),
        ("interactive", None, "interactive"),
        ("interactive", "auto", "interactive"),
    ],
)
def test_classes(header: str | None, tier: str | None, expected: str | None) -> None:
    assert said(header, tier) == expected


@pytest.mark.parametrize(("header", "tier"), [("interactive", "flex"), ("Batch", None), ("", None), ("high", "flex")])
def test_what_means_no_class(header: str, tier: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        said(header, tier)
    assert (refused.value.status, refused.value.param) == (400, "x-prfaas-priority")

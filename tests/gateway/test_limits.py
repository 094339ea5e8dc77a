"""Limits on what one request may be, and how refusals are counted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.running_router import CONTEXT_TOKENS, RunningRouter, running_router
from tests.gateway.test_bad_requests import TEXT, error_of


async def test_a_prompt_longer_than_the_context(router: RunningRouter) -> None:
    error = error_of(await router.http.post("/v1/completions", json=TEXT | {"prompt": [5] * 3000}), 400)
    assert error["code"] == "context_length_exceeded"
    assert "3000" in error["message"]
    assert str(CONTEXT_TOKENS) in error["message"]


async def test_prompt_and_answer_longer_than_the_context(router: RunningRouter) -> None:
    body = TEXT | {"prompt": [5] * 1990, "max_tokens": 11}
    error = error_of(await router.http.post("/v1/completions", json=body), 400)
    assert error["code"] == "context_length_exceeded"
    assert "2001" in error["message"]
    assert str(CONTEXT_TOKENS) in error["message"]


async def test_exactly_the_context_fits(router: RunningRouter) -> None:
    await router.add()
    body = TEXT | {"prompt": [5] * 1990, "max_tokens": 10}
    assert (await router.http.post("/v1/completions", json=body)).status_code == 200


async def test_a_smaller_context_of_the_instances_counts(router: RunningRouter) -> None:
    await router.add("decode-1", max_context_tokens=500)
    error = error_of(await router.http.post("/v1/completions", json=TEXT | {"prompt": [5] * 600}), 400)
    assert "500" in error["message"]
    large = await router.add("decode-2", max_context_tokens=1000)
    assert (await router.http.post("/v1/completions", json=TEXT | {"prompt": [5] * 600})).status_code == 200
    assert len(large.calls) == 1, "a request only goes where it fits"


@pytest.fixture
async def narrow(model: Path) -> AsyncIterator[RunningRouter]:
    """Takes bodies of up to 1 KiB that come within a fifth of a second."""
    async with running_router(model, max_body_mib=1 / 1024, body_timeout_s=0.2) as router:
        yield router


async def test_a_body_that_turns_out_too_large(narrow: RunningRouter) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100

    error = error_of(await narrow.http.post("/v1/completions", content=chunks()), 413)
    assert error["code"] == "request_too_large"
    assert "1024 bytes" in error["message"]


async def test_a_body_that_does_not_come(narrow: RunningRouter) -> None:
    reader, writer = await asyncio.open_connection(*narrow.server.http_address.split(":"))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"0.2 s" in await reader.readuntil(b"}}")
    writer.close()
    assert narrow.metric("prfaas_router_requests_in_flight") == 0


async def test_refusals_are_counted_under_their_route(router: RunningRouter) -> None:
    await router.http.post("/v1/completions", json={})
    await router.http.get("/wp-admin")
    assert router.metric("prfaas_router_requests_total", endpoint="/v1/completions", status="400") == 1
    assert router.metric("prfaas_router_requests_total", endpoint="other", status="404") == 1

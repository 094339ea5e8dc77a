"""API keys over HTTP: who is let in, how fast, and that tenants share nothing."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from prfaas.config.sections import AdmissionSection
from tests.gateway.fake_instance import Finish, Say
from tests.gateway.running_router import RunningRouter, fleet_config, router_of
from tests.gateway.test_bad_requests import TEXT, error_of

ALICE = {"authorization": "Bearer key of alice"}
BOB = {"authorization": "Bearer key of bob"}


def keyed(
    model: Path, *, alice: dict[str, Any] | None = None, **router: Any
) -> AbstractAsyncContextManager[RunningRouter]:
    """A router for alice, as `alice` says, and bob, without limits."""
    keys = [
        {"name": name, "sha256": hashlib.sha256(f"key of {name}".encode()).hexdigest(), **options}
        for name, options in (("alice", alice or {}), ("bob", {}))
    ]
    config = fleet_config(model, **router)
    return router_of(config.model_copy(update={"admission": AdmissionSection.model_validate({"api_keys": keys})}))


@pytest.fixture
async def guarded(model: Path) -> AsyncIterator[RunningRouter]:
    async with keyed(model) as router:
        await router.add()
        yield router


async def test_a_key_opens(guarded: RunningRouter) -> None:
    assert (await guarded.http.post("/v1/completions", json=TEXT, headers=ALICE)).status_code == 200
    assert (await guarded.http.get("/v1/models", headers={"Authorization": "bearer  key of bob"})).status_code == 200
    assert guarded.metric("prfaas_router_tenant_requests_total", tenant="alice") == 1
    tokens = guarded.metric("prfaas_router_tenant_tokens_total", tenant="alice")
    assert tokens > len(TEXT["prompt"]), "prompt and answer"


WRONG = [
    {},
    {b"authorization": b"key of alice"},
    {b"authorization": b"Basic key of alice"},
    {b"authorization": b"Bearer"},
    {b"authorization": b"Bearer key of mallory"},
    {b"authorization": b"Bearer \xff\xfe"},
]


async def test_without_a_known_key(guarded: RunningRouter) -> None:
    """A missing key and an unknown one look the same, whatever is asked for."""
    replies = []
    for headers in WRONG:
        http = httpx2.Headers(headers)
        replies += [
            await guarded.http.post("/v1/completions", json=TEXT, headers=http),
            await guarded.http.post("/v1/completions", content=b"{", headers=http),
            await guarded.http.get("/v1/models", headers=http),
            await guarded.http.get("/v1/no-such-thing", headers=http),
            await guarded.http.get("/no-such-thing", headers=http),
        ]
    for reply in replies:
        error = error_of(reply, 401)
        assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.content == replies[0].content
    assert guarded.metric("prfaas_router_unauthorized_total") == len(replies)
    assert not guarded.fakes[0].calls


async def test_two_keys_are_none(guarded: RunningRouter) -> None:
    headers = [("authorization", "Bearer key of mallory"), ("authorization", "Bearer key of alice")]
    error_of(await guarded.http.get("/v1/models", headers=headers), 401)


async def test_the_sdk_understands(guarded: RunningRouter) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await guarded.openai.models.list()
    assert refused.value.code == "invalid_api_key"
    assert (await guarded.openai.with_options(api_key="key of bob").models.list()).data[0].id == "tiny"


async def test_what_operators_watch_needs_no_key(guarded: RunningRouter) -> None:
    for path in ("/health", "/ready", "/metrics", "/fleet", "/openapi.json", "/docs"):
        assert (await guarded.http.get(path)).status_code == 200, path
    error_of(await guarded.http.get("/healthy"), 401)


async def test_every_tenant_has_prefixes_of_its_own(guarded: RunningRouter) -> None:
    for headers in (ALICE, BOB):
        for salt in (None, "x"):
            await guarded.http.post("/v1/completions", json={**TEXT, "cache_salt": salt}, headers=headers)
    salts = [call.cache_salt for call in guarded.fakes[0].calls]
    assert len(set(salts)) == 4
    assert all(salts)


async def test_requests_that_come_too_fast(model: Path) -> None:
    async with keyed(model, alice={"requests_per_s": 0.1, "burst": 2}) as router:
        await router.add()
        statuses = [(await router.http.get("/v1/models", headers=ALICE)).status_code for _ in range(2)]
        assert statuses == [200, 200]
        reply = await router.http.post("/v1/completions", json=TEXT, headers=ALICE)
        error = error_of(reply, 429)
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert reply.headers["retry-after"] == "10"
        assert router.metric("prfaas_router_refused_total", reason="requests_rate", priority="interactive") == 1
        assert (await router.http.get("/v1/models", headers=BOB)).status_code == 200
        router.clock.now_s += 10
        assert (await router.http.post("/v1/completions", json=TEXT, headers=ALICE)).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_tokens_that_are_used_up(model: Path, streamed: bool) -> None:
    """30 of prompt and up to 60 for two answers; of these 2 each are generated, and the rest is given back."""
    async with keyed(model, alice={"tokens_per_s": 2.0, "token_burst": 100}) as router:
        fake = await router.add()
        fake.script = lambda _: [Say([5, 6]), Finish("stop")]
        body = {"model": "tiny", "prompt": [5] * 30, "max_tokens": 30, "n": 2, "stream": streamed}
        assert (await router.http.post("/v1/completions", json=body, headers=ALICE)).status_code == 200
        assert router.metric("prfaas_router_tenant_tokens_total", tenant="alice") == 34
        reply = await router.http.post("/v1/completions", json=body, headers=ALICE)
        assert error_of(reply, 429)["code"] == "rate_limit_exceeded"
        assert reply.headers["retry-after"] == "12"
        assert router.metric("prfaas_router_refused_total", reason="tokens_rate", priority="interactive") == 1
        assert (await router.http.post("/v1/completions", json=body, headers=BOB)).status_code == 200
        assert (
            "101 tokens"
            in error_of(
                await router.http.post("/v1/completions", json={**body, "n": 1, "max_tokens": 71}, headers=ALICE), 400
            )["message"]
        )


PREFLIGHT = {
    "origin": "https://chat.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


async def test_web_pages_may_not_call_by_default(guarded: RunningRouter) -> None:
    reply = await guarded.http.get("/health", headers={"origin": "https://chat.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert (await guarded.http.options("/v1/models", headers=PREFLIGHT)).status_code == 405


async def test_web_pages_of_a_known_origin(model: Path) -> None:
    async with keyed(model, cors_origins=("https://chat.example",)) as router:
        preflight = await router.http.options("/v1/chat/completions", headers=PREFLIGHT)
        assert preflight.status_code == 200, "browsers send no key with it"
        assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
        assert "x-stainless-lang" in preflight.headers["access-control-allow-headers"]
        refused = await router.http.get("/v1/models", headers={"origin": "https://chat.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://chat.example", "the page may read why"
        other = await router.http.options("/v1/models", headers={**PREFLIGHT, "origin": "https://other.example"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers

"""`x-prfaas-trace` and `x-prfaas-prefill`: where a request went, and choosing it."""

import json
import logging
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessageParam

from prfaas.control.v1 import fleet_pb2 as pb
from tests.gateway.running_router import RunningRouter

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
LONG: list[ChatCompletionMessageParam] = [{"role": "user", "content": "far away " * 60}]
TRACED = {"x-prfaas-trace": "1"}


async def add_fleet(router: RunningRouter) -> None:
    await router.add("decode-1")
    await router.add("prefill-home", role=pb.ROLE_PREFILL)
    await router.add("prefill-far", role=pb.ROLE_PREFILL, cluster="far")


async def trace_of(router: RunningRouter, messages: list[ChatCompletionMessageParam], **headers: str) -> dict[str, Any]:
    answer = await router.openai.chat.completions.create(
        model="tiny", messages=messages, max_tokens=50, extra_headers=TRACED | headers
    )
    assert answer.model_extra
    trace = answer.model_extra["prfaas"]
    assert trace["request_id"] == answer.id
    return dict(trace)


async def test_a_long_prompt_is_prefilled_far_away(router: RunningRouter) -> None:
    await add_fleet(router)
    decode, _, far = router.fakes
    decode.account = {"tokens_held": 64, "kv_bytes_again": 5, "tokens_verified": 32}
    trace = await trace_of(router, LONG)
    assert decode.calls[0].prefill == pb.PrefillTarget(
        instance_id="prefill-far", cluster="far", control_address=far.address
    )
    assert trace.pop("ttft_ms") >= 0
    prompt_tokens = len(decode.calls[0].prompt_token_ids)
    assert trace == {
        "request_id": decode.calls[0].request_id,
        "prefill": {
            "cluster": "far",
            "instance": "prefill-far",
            "tokens_computed": prompt_tokens,
            "tokens_reused": 0,
            "tokens_fetched": 0,
            "fetched_from": None,
        },
        "kv": {
            "bytes_raw": 1000,
            "bytes_wire": 900,
            "bytes_again": 5,
            "codec": "raw",
            "transfer_ms": 2.5,
            "tokens_held": 64,
            "tokens_verified": 32,
        },
        "decode": {"cluster": "home", "instance": "decode-1"},
        "queue_ms": 0.5,
        "prefill_ms": 3.0,
        "fallback": None,
        "placement": f"{prompt_tokens} uncached tokens > threshold 100",
        "token_ids": router.tokenizer.encode("hello world").ids,
    }
    assert router.metric("prfaas_router_placements_total", decision="remote", prefill_cluster="far") == 1
    assert router.metric("prfaas_router_time_to_first_token_seconds_count", decision="remote") == 1
    assert router.metric("vllm:time_to_first_token_seconds_count") == 1
    assert router.metric("prfaas_router_prompt_tokens_sum") == prompt_tokens


async def test_a_short_prompt_stays_at_home(router: RunningRouter) -> None:
    await add_fleet(router)
    trace = await trace_of(router, ASK)
    assert trace["prefill"]["instance"] == "prefill-home"
    assert router.metric("prfaas_router_placements_total", decision="local", prefill_cluster="home") == 1


async def test_a_lone_decode_instance_does_everything(router: RunningRouter) -> None:
    fake = await router.add()
    trace = await trace_of(router, LONG)
    assert not fake.calls[0].HasField("prefill")
    assert trace["prefill"]["instance"] == "decode-1"
    assert trace["kv"]["codec"] == "none"


@pytest.mark.parametrize(("where", "instance"), [("remote", "prefill-far"), ("local", "prefill-home")])
async def test_a_header_forces_the_placement(router: RunningRouter, where: str, instance: str) -> None:
    await add_fleet(router)
    for messages in (ASK, LONG):
        trace = await trace_of(router, messages, **{"x-prfaas-prefill": where})
        assert trace["prefill"]["instance"] == instance


async def test_remote_cannot_be_forced_without_a_remote_cluster(router: RunningRouter) -> None:
    await router.add()
    body = {"model": "tiny", "messages": ASK}
    response = await router.http.post("/v1/chat/completions", json=body, headers={"x-prfaas-prefill": "remote"})
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("include_usage", [False, True])
async def test_in_a_stream_the_trace_is_on_the_last_chunk(router: RunningRouter, include_usage: bool) -> None:
    await router.add()
    body: dict[str, Any] = {"model": "tiny", "messages": ASK, "stream": True}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    response = await router.http.post("/v1/chat/completions", json=body, headers=TRACED)
    events = response.text.split("\n\n")[:-2]
    *others, last = [json.loads(event.removeprefix("data: ")) for event in events]
    assert last["prfaas"]["token_ids"] == router.tokenizer.encode("hello world").ids
    assert not any("prfaas" in chunk for chunk in others)
    assert bool(last["choices"]) is not include_usage


async def test_a_fallback_is_reported_counted_and_logged(
    router: RunningRouter, caplog: pytest.LogCaptureFixture
) -> None:
    await add_fleet(router)
    router.fakes[0].account = {
        "fallback": "peer_lost",
        "prefill_cluster": "home",
        "prefill_instance": "decode-1",
    }
    with caplog.at_level(logging.WARNING):
        trace = await trace_of(router, LONG)
    assert trace["fallback"] == "peer_lost"
    assert trace["prefill"]["instance"] == "decode-1"
    assert router.metric("prfaas_router_fallbacks_total", code="peer_lost") == 1
    assert any("prefill-far" in r.message and "peer_lost" in r.message for r in caplog.records)


async def test_without_the_header_there_is_no_trace(router: RunningRouter) -> None:
    await router.add()
    for headers in ({}, {"x-prfaas-trace": "0"}):
        response = await router.http.post(
            "/v1/chat/completions", json={"model": "tiny", "messages": ASK}, headers=headers
        )
        assert "prfaas" not in response.json()

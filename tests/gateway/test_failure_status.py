"""The status and code of each way in which the only instance can fail."""

import grpc
import pytest

from prfaas.core.errors import (
    CapacityError,
    ContextLengthError,
    DeadlineError,
    DigestError,
    DrainingError,
    EngineError,
)
from tests.gateway.fake_instance import Abort, Finish, Script
from tests.gateway.running_router import RunningRouter
from tests.gateway.test_faults import BODY, fails

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (fails(EngineError("boom")), 500, "engine_failed"),
        (fails(DigestError("bad bytes")), 502, "digest_mismatch"),
        (fails(DeadlineError("late")), 504, "deadline_exceeded"),
        (fails(CapacityError("too big for the pool")), 400, "capacity_exceeded"),
        (fails(ContextLengthError("too long for me")), 400, "context_length_exceeded"),
        (fails(DrainingError("leaving")), 503, "draining"),
        (lambda _: [Abort(grpc.StatusCode.UNAVAILABLE)], 502, "peer_lost"),
        (lambda _: [Abort(grpc.StatusCode.CANCELLED)], 502, "peer_lost"),
        (lambda _: [Abort(grpc.StatusCode.RESOURCE_EXHAUSTED)], 503, "unavailable"),
        (lambda _: [Abort(grpc.StatusCode.INTERNAL)], 500, "internal"),
        (lambda _: [Abort(grpc.StatusCode.OK)], 502, "peer_lost"),
        (lambda _: [Finish("cancelled")], 502, "peer_lost"),
        (lambda _: [Finish("bored")], 500, "internal"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failure_before_the_first_token_has_its_status(
    shared_router: RunningRouter, script: Script, status: int, code: str, streamed: bool
) -> None:
    fake = shared_router.fakes[0] if shared_router.fakes else await shared_router.add()
    fake.script = script
    response = await shared_router.http.post("/v1/chat/completions", json=BODY | {"stream": streamed})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert ("retry-after" in response.headers) == (status == 503)
    assert response.headers["x-request-id"].startswith("chatcmpl-")

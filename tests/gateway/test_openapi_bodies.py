"""Bodies made from the OpenAPI document, and broken ones: never 5xx, and every answer is as the document says."""

import json
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.gateway.running_router import RunningRouter
from tests.gateway.schema_fits import fits
from tests.gateway.schema_values import any_json, values

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATHS = pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])


class Described:
    """A router with one instance, and what it says of itself."""

    def __init__(self, router: RunningRouter, document: dict[str, Any]) -> None:
        self.router = router
        self.schemas = document["components"]["schemas"]
        self.paths = document["paths"]

    def body_of(self, path: str) -> dict[str, Any]:
        """The schema of its bodies."""
        schema = self.paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return dict(self.schemas[schema["$ref"].rpartition("/")[2]])

    async def check(self, method: str, path: str, **request: Any) -> int:
        """The status of an answer that is as the document says."""
        # Requests that are over count as load until their instance is heard again, and batch ones wait for it.
        await self.router.heartbeat(self.router.fakes[0])
        response = await self.router.http.request(method, path.replace("{model}", "tiny"), **request)
        assert response.status_code < 500, response.text
        answers = self.paths[path][method.lower()]["responses"]
        content = answers.get(str(response.status_code), answers.get("default"))["content"]
        kind = response.headers["content-type"].partition(";")[0]
        if kind == "application/json":
            assert fits(response.json(), content[kind]["schema"], self.schemas), response.text
        else:
            assert kind in content
        return response.status_code


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def described(shared_router: RunningRouter) -> Described:
    await shared_router.add()
    return Described(shared_router, (await shared_router.http.get("/openapi.json")).json())


def some_body(data: st.DataObject, described: Described, path: str) -> dict[str, Any]:
    """One that fits; it asks for the model that there is, and for few choices and tokens."""
    body: dict[str, Any] = data.draw(values(described.body_of(path), described.schemas))
    small = {"max_tokens": 5, "max_output_tokens": 5, "max_completion_tokens": 5, "n": 2}
    return body | {"model": "tiny"} | {name: value for name, value in small.items() if name in body}


@PATHS
@settings(max_examples=25)
@given(data=st.data())
async def test_what_fits_is_answered_or_refused(described: Described, path: str, data: st.DataObject) -> None:
    body = some_body(data, described, path)
    assert fits(body, described.body_of(path), described.schemas)
    event(str(await described.check("POST", path, json=body)))


@PATHS
@settings(max_examples=40)
@given(data=st.data())
async def test_what_does_not_fit_is_refused(described: Described, path: str, data: st.DataObject) -> None:
    schema = described.body_of(path)
    body = some_body(data, described, path)
    name = data.draw(st.sampled_from(sorted(schema["properties"])) | st.text(max_size=5))
    body[name] = data.draw(any_json)
    if data.draw(st.booleans()):
        del body[data.draw(st.sampled_from(schema["required"]))]
    status = await described.check("POST", path, json=body)
    event(str(status))
    if not fits(body, schema, described.schemas):
        assert 400 <= status < 500


@PATHS
@settings(max_examples=20)
@given(data=st.data())
async def test_bytes_that_are_almost_a_body(described: Described, path: str, data: st.DataObject) -> None:
    raw = bytearray(json.dumps(some_body(data, described, path)).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    await described.check("POST", path, content=bytes(raw))


async def test_the_other_answers_are_as_described(described: Described) -> None:
    gets = [path for path, operations in described.paths.items() if "get" in operations]
    assert {"/v1/models", "/v1/models/{model}", "/fleet", "/ready", "/health", "/metrics"} <= set(gets)
    for path in gets:
        if path == "/fleet/events":
            continue  # it does not end
        assert await described.check("GET", path) == 200

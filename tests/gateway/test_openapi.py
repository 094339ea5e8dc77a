"""The OpenAPI document tells what the handlers really accept."""

import re
from typing import Any

import msgspec
import pytest
from pydantic.json_schema import models_json_schema

from prfaas.gateway.app import BODIES, REPLIES
from tests.gateway.running_router import RunningRouter


@pytest.mark.parametrize(
    ("path", "required", "property_"),
    [
        ("/v1/chat/completions", {"model", "messages"}, "max_completion_tokens"),
        ("/v1/completions", {"model", "prompt"}, "prompt"),
        ("/v1/responses", {"model", "input"}, "instructions"),
    ],
)
async def test_request_bodies(router: RunningRouter, path: str, required: set[str], property_: str) -> None:
    document: dict[str, Any] = (await router.http.get("/openapi.json")).json()
    post = document["paths"][path]["post"]
    reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["required"]) == required
    assert property_ in schema["properties"]
    assert schema["additionalProperties"] is False
    assert {p["name"] for p in post["parameters"]} == {"x-prfaas-trace", "x-prfaas-prefill", "x-prfaas-priority"}


async def test_every_reference_resolves(router: RunningRouter) -> None:
    text = (await router.http.get("/openapi.json")).text
    document = (await router.http.get("/openapi.json")).json()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert "ErrorReply" in names
    assert names <= set(document["components"]["schemas"])
    assert "#/$defs" not in text


def test_no_schema_hides_another_of_its_name() -> None:
    _, bodies = models_json_schema([(body, "validation") for body in BODIES])
    _, replies = msgspec.json.schema_components(REPLIES)
    assert not bodies["$defs"].keys() & replies.keys()


async def test_every_variable_of_a_path_is_described(router: RunningRouter) -> None:
    """Tools that read the document refuse it otherwise."""
    document: dict[str, Any] = (await router.http.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        described = {p["name"] for p in operations.get("get", {}).get("parameters", []) if p["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


async def test_metrics_are_described_as_text(router: RunningRouter) -> None:
    document: dict[str, Any] = (await router.http.get("/openapi.json")).json()
    assert set(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}

"""Assembles the router's HTTP app from parts that the command line built."""

import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from prfaas import __version__
from prfaas.config.sections import FleetConfig
from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError
from prfaas.core.request import MAX_SEED
from prfaas.engine.grammar import GrammarCompiler
from prfaas.gateway import errors
from prfaas.gateway.body_reader import BodyReader
from prfaas.gateway.client_request_id import REQUEST_ID_HEADER
from prfaas.gateway.directory import Directory
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.edge import Edge
from prfaas.gateway.errors import ApiError, ErrorReply
from prfaas.gateway.fleet_changes import FleetChange, FleetStart
from prfaas.gateway.fleet_reply import FleetReply
from prfaas.gateway.fleet_watch import FleetWatch
from prfaas.gateway.gate import Gate
from prfaas.gateway.grammar_check import GrammarCheck
from prfaas.gateway.guard import Guard
from prfaas.gateway.openai_api import OpenAIApi, ServedModel
from prfaas.gateway.parse import PREFILL_HEADER, PRIORITY_HEADER, TRACE_HEADER
from prfaas.gateway.registry import Registry
from prfaas.gateway.replies import ChatCompletion, ModelCard, ModelList, TextCompletion
from prfaas.gateway.responses_body import ResponsesBody
from prfaas.gateway.responses_replies import ResponseReply
from prfaas.gateway.schema import ChatBody, CompletionBody
from prfaas.gateway.status_api import ReadyReply, StatusApi
from prfaas.gateway.tenants import Tenants
from prfaas.gateway.tokenizer import ModelTokenizer
from prfaas.telemetry.metrics import RouterMetrics

SCHEMA_AT = "#/components/schemas/"
BODIES = (ChatBody, CompletionBody, ResponsesBody)
REPLIES = (
    ChatCompletion,
    TextCompletion,
    ResponseReply,
    ModelList,
    ModelCard,
    FleetReply,
    FleetStart,
    FleetChange,
    ReadyReply,
    ErrorReply,
)
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def draw_seed() -> int:
    """A seed for a request that named none."""
    return secrets.randbelow(MAX_SEED + 1)


def build_app(
    config: FleetConfig,
    tokenizer: ModelTokenizer,
    max_context_tokens: int,
    registry: Registry,
    directory: Directory,
    dispatcher: Dispatcher,
    gate: Gate,
    metrics: RouterMetrics,
    clock: Clock,
    watch: FleetWatch,
    unix_time: Clock = time.time,
    seeds: Callable[[], int] = draw_seed,
) -> FastAPI:
    """The router's HTTP side. `max_context_tokens` is the model's limit, already shortened by the config's."""
    model = ServedModel(config.model.name, int(unix_time()), max_context_tokens, config.router.default_max_tokens)
    grammars = GrammarCheck(GrammarCompiler(config.model.path / "tokenizer.json"))
    read_body = BodyReader(int(config.router.max_body_mib * (1 << 20)), config.router.body_timeout_s)
    openai = OpenAIApi(
        model, read_body, tokenizer, grammars, registry, dispatcher, gate, metrics, clock, unix_time, seeds
    )
    status = StatusApi(config, registry, gate, metrics, directory, watch)
    app = FastAPI(title="prfaas", version=__version__, redoc_url=None, redirect_slashes=False)
    app.add_middleware(Guard, tenants=Tenants(config.admission.api_keys, clock), metrics=metrics)
    app.add_middleware(Edge, gate=gate, metrics=metrics)
    if config.router.cors_origins:  # outermost: browsers must be able to read every refusal, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.router.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "retry-after"],
        )
    _add_openai(app, openai)
    _add_status(app, status)
    _add_error_handlers(app, openai)
    _describe(app)
    return app


def _add_openai(app: FastAPI, api: OpenAIApi) -> None:
    app.add_api_route(
        "/v1/chat/completions",
        api.chat_completions,
        methods=["POST"],
        openapi_extra=_body(ChatBody.__name__),
        responses=_answers(ChatCompletion, streams=True),
    )
    app.add_api_route(
        "/v1/completions",
        api.completions,
        methods=["POST"],
        openapi_extra=_body(CompletionBody.__name__),
        responses=_answers(TextCompletion, streams=True),
    )
    app.add_api_route(
        "/v1/responses",
        api.responses,
        methods=["POST"],
        openapi_extra=_body(ResponsesBody.__name__),
        responses=_answers(ResponseReply, streams=True),
    )
    app.add_api_route("/v1/models", api.models, responses=_answers(ModelList))
    # The handler reads the name itself, so the document is told of it.
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    one = {"parameters": [name]}
    app.add_api_route("/v1/models/{model:path}", api.one_model, openapi_extra=one, responses=_answers(ModelCard))


def _add_status(app: FastAPI, api: StatusApi) -> None:
    app.add_api_route("/health", api.health)
    app.add_api_route("/ready", api.ready, responses=_answers(ReadyReply))
    for path, handler in (("/health", api.health), ("/ready", api.ready)):  # some load balancers ask so
        app.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/fleet", api.fleet, responses=_answers(FleetReply))
    app.add_api_route("/fleet/events", api.fleet_events, response_class=Response, responses=EVENTS)
    app.add_api_route("/ui", api.ui, response_class=HTMLResponse)
    app.add_api_route("/metrics", api.prometheus, response_class=PlainTextResponse)


def _add_error_handlers(app: FastAPI, api: OpenAIApi) -> None:
    async def on_prfaas(request: Request, error: Exception) -> Response:  # noqa: ARG001 — Starlette's signature
        assert isinstance(error, PrfaasError)
        api.note_failure(error)
        return errors.response(errors.from_prfaas(error))

    async def on_api(request: Request, error: Exception) -> Response:  # noqa: ARG001 — Starlette's signature
        assert isinstance(error, ApiError)
        return errors.response(error)

    app.add_exception_handler(PrfaasError, on_prfaas)
    app.add_exception_handler(ApiError, on_api)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    message = {404: f"there is no {where}", 405: f"{where} is not allowed"}.get(error.status_code, error.detail)
    code = HTTPStatus(error.status_code).name.lower()
    return errors.response(ApiError(error.status_code, message, code=code), dict(error.headers or {}))


def _body(name: str) -> dict[str, Any]:
    """The handlers read bodies themselves, so the document is told what they accept."""

    def header(header_name: str, values: list[str], description: str) -> dict[str, Any]:
        schema = {"type": "string", "enum": values}
        return {"name": header_name, "in": "header", "required": False, "schema": schema, "description": description}

    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": SCHEMA_AT + name}}}},
        "parameters": [
            header(TRACE_HEADER, ["0", "1"], "1: the answer carries `prfaas`, the account of the request."),
            header(PREFILL_HEADER, ["local", "remote"], "Where to prefill, whatever the prompt's length."),
            header(PRIORITY_HEADER, ["batch", "interactive"], "batch: waits while the fleet is busy."),
        ],
    }


def _answers(reply: type[msgspec.Struct], *, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    def content(kind: type[msgspec.Struct]) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": SCHEMA_AT + kind.__name__}}}

    ok = content(reply) | ({"text/event-stream": {"schema": {"type": "string"}}} if streams else {})
    return {200: {"content": ok}, "default": {"description": "Error", "content": content(ErrorReply)}}


def _describe(app: FastAPI) -> None:
    """Adds the schemas that the routes refer to; FastAPI finds only those of parameters that it parses itself."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, bodies = models_json_schema(
                [(body, "validation") for body in BODIES], ref_template=SCHEMA_AT + "{model}"
            )
            _, replies = msgspec.json.schema_components(REPLIES, ref_template=SCHEMA_AT + "{name}")
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(replies | bodies["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

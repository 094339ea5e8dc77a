"""The OpenAI endpoints: validate, tokenise, dispatch, and answer whole or as a stream."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from prfaas.core.clock import Clock
from prfaas.core.errors import ContextLengthError, PrfaasError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.gateway import parse
from prfaas.gateway.answer import Answer, Arrival
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.errors import ApiError, ClientGoneError
from prfaas.gateway.forms import ChatForm, Form, Head, TextForm
from prfaas.gateway.gate import Gate
from prfaas.gateway.registry import Registry
from prfaas.gateway.replies import ModelCard, ModelList
from prfaas.gateway.schema import ChatBody, CompletionBody
from prfaas.gateway.stream import AnswerStream
from prfaas.gateway.tokenizer import ModelTokenizer
from prfaas.policy.view import Force
from prfaas.telemetry.metrics import RouterMetrics

MAX_BODY_BYTES = 16 << 20
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The one model of the fleet. `created_s` is Unix time; `max_context_tokens` is the checkpoint's own limit."""

    name: str
    created_s: int
    max_context_tokens: int
    default_max_tokens: int
    """What a chat that names no limit may generate."""


@dataclass(frozen=True, slots=True)
class OpenAIApi:
    """Handlers of `/v1`. `unix_time` stamps answers; `draw_seed` serves requests that name no seed."""

    model: ServedModel
    tokenizer: ModelTokenizer
    registry: Registry
    dispatcher: Dispatcher
    gate: Gate
    metrics: RouterMetrics
    clock: Clock
    unix_time: Clock
    draw_seed: Callable[[], int]

    async def chat_completions(self, http: HttpRequest) -> Response:
        """`POST /v1/chat/completions`"""
        arrived_s = self.clock()
        body = parse.parse(ChatBody, await parse.read_body(http, MAX_BODY_BYTES))
        self._check_model(body.model)
        prompt = await self.tokenizer.encode_chat(
            [message.for_template() for message in body.messages], self._context_tokens()
        )
        return await self._answer(http, body, prompt, ChatForm(self._head(http, body)), arrived_s)

    async def completions(self, http: HttpRequest) -> Response:
        """`POST /v1/completions`"""
        arrived_s = self.clock()
        body = parse.parse(CompletionBody, await parse.read_body(http, MAX_BODY_BYTES))
        self._check_model(body.model)
        if isinstance(body.prompt, str):
            prompt = await self.tokenizer.encode_text(body.prompt, self._context_tokens())
        else:
            prompt = self.tokenizer.check_ids(body.prompt)
        return await self._answer(http, body, prompt, TextForm(self._head(http, body)), arrived_s)

    async def models(self, http: HttpRequest) -> Response:  # noqa: ARG002 — every handler gets the request
        """`GET /v1/models`"""
        return Response(msgspec.json.encode(ModelList([self._card()])), media_type=JSON)

    async def one_model(self, http: HttpRequest) -> Response:
        """`GET /v1/models/{model}`"""
        self._check_model(http.path_params["model"])
        return Response(msgspec.json.encode(self._card()), media_type=JSON)

    def note_failure(self, error: PrfaasError) -> None:
        """Counts a request that ended in an error."""
        if isinstance(error, ClientGoneError):
            self.metrics.disconnects.inc()
        self.metrics.failures.labels(error.code).inc()

    async def _answer(
        self, http: HttpRequest, body: ChatBody | CompletionBody, prompt: tuple[int, ...], form: Form, arrived_s: float
    ) -> Response:
        force, traced = parse.force(http), parse.wants_trace(http)
        max_tokens = self._max_tokens(body.wanted_tokens, len(prompt))
        sampling = body.sampling(max_tokens, self.draw_seed())
        request = Request(RequestId(http.state.request_id), prompt, sampling)
        self.metrics.prompt_tokens.observe(request.prompt_tokens)
        answering = self._answering(Arrival(request, arrived_s, traced), force, body.stop_strings)
        if body.stream:
            return AnswerStream(answering, form, self.gate, self.note_failure)
        content = await self.gate.until_gone(http.receive, _whole(answering, form))
        return Response(content, media_type=JSON)

    @asynccontextmanager
    async def _answering(
        self, arrival: Arrival, force: Force | None, stop_strings: tuple[str, ...]
    ) -> AsyncIterator[Answer]:
        async with self.dispatcher.dispatch(arrival.request, force) as generation:
            yield Answer(arrival, generation, self.tokenizer.detokenizer(stop_strings), self.metrics, self.clock)

    def _max_tokens(self, wanted: int | None, prompt_tokens: int) -> int:
        """Raises ContextLengthError when the prompt, or prompt and answer, do not fit."""
        context = self._context_tokens()
        room = context - prompt_tokens
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {prompt_tokens} tokens, which leaves no room for an answer in the context of {context}"
            )
        if wanted is not None and wanted > room:
            raise ContextLengthError(
                f"the prompt has {prompt_tokens} tokens and up to {wanted} are to be generated, "
                f"{prompt_tokens + wanted} in all; the context has {context}"
            )
        return min(room, self.model.default_max_tokens) if wanted is None else wanted

    def _context_tokens(self) -> int:
        return min(self.model.max_context_tokens, self.registry.max_context_tokens() or self.model.max_context_tokens)

    def _check_model(self, name: str) -> None:
        if name != self.model.name:
            message = f"the model {name!r} does not exist; this server has {self.model.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def _head(self, http: HttpRequest, body: ChatBody | CompletionBody) -> Head:
        return Head(http.state.request_id, int(self.unix_time()), self.model.name, body.include_usage)

    def _card(self) -> ModelCard:
        return ModelCard(self.model.name, self.model.created_s)


async def _whole(answering: AbstractAsyncContextManager[Answer], form: Form) -> bytes:
    async with answering as answer:
        text = await answer.read_all()
        return form.whole(text, answer.ending())

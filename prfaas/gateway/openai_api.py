"""The OpenAI endpoints: validate, tokenise, dispatch, and answer whole or as a stream."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec
from msgspec import UNSET
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from prfaas.config.sections import Priority
from prfaas.core.clock import Clock
from prfaas.core.errors import ContextLengthError, PrfaasError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.gateway import parse
from prfaas.gateway.answer import Answer, Arrival, Piece
from prfaas.gateway.body_reader import BodyReader
from prfaas.gateway.charge import charged
from prfaas.gateway.choices import Choices, choice_seed
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.errors import ApiError, ClientGoneError
from prfaas.gateway.forms import ChatForm, Ending, Form, Head, TextForm
from prfaas.gateway.gate import Gate
from prfaas.gateway.generation import Generation
from prfaas.gateway.grammar_check import GrammarCheck
from prfaas.gateway.registry import Registry
from prfaas.gateway.replies import ModelCard, ModelList
from prfaas.gateway.responses_body import ResponsesBody
from prfaas.gateway.responses_form import ResponsesForm
from prfaas.gateway.schema import ChatBody, CompletionBody
from prfaas.gateway.stream import AnswerStream
from prfaas.gateway.tenants import Tenant
from prfaas.gateway.tokenizer import ModelTokenizer
from prfaas.policy.view import Force
from prfaas.telemetry.metrics import RouterMetrics

JSON = "application/json"

GeneratingBody = ChatBody | CompletionBody | ResponsesBody


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
    read_body: BodyReader
    tokenizer: ModelTokenizer
    grammars: GrammarCheck
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
        body = parse.parse(ChatBody, await self.read_body(http))
        self._check_model(body.model)
        prompt = await self.tokenizer.encode_chat(
            [message.for_template() for message in body.messages],
            self._context_tokens(),
            body.template_tools,
            body.chat_template_kwargs,
        )
        form = ChatForm(self._head(http, body), self.tokenizer.token_bytes)
        return await self._answer(http, body, [prompt], form, arrived_s)

    async def completions(self, http: HttpRequest) -> Response:
        """`POST /v1/completions`"""
        arrived_s = self.clock()
        body = parse.parse(CompletionBody, await self.read_body(http))
        self._check_model(body.model)
        prompts = [await self._encode(prompt) for prompt in body.prompts]
        form = TextForm(self._head(http, body), self.tokenizer.token_bytes)
        return await self._answer(http, body, prompts, form, arrived_s)

    async def responses(self, http: HttpRequest) -> Response:
        """`POST /v1/responses`"""
        arrived_s = self.clock()
        body = parse.parse(ResponsesBody, await self.read_body(http))
        self._check_model(body.model)
        prompt = await self.tokenizer.encode_chat(
            body.turns, self._context_tokens(), body.template_tools, body.chat_template_kwargs
        )
        form = ResponsesForm(self._head(http, body), self.tokenizer.token_bytes, body)
        return await self._answer(http, body, [prompt], form, arrived_s)

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
        self,
        http: HttpRequest,
        body: GeneratingBody,
        prompts: Sequence[tuple[int, ...]],
        form: Form,
        arrived_s: float,
    ) -> Response:
        force, traced = parse.force(http), parse.wants_trace(http)
        if force == "remote" and body.num_logprobs is not None:
            message = "the logprobs of the first token do not travel: a prompt whose answer has them is not sent away"
            raise ApiError(400, message, param=parse.PREFILL_HEADER, code=RequestError.code)
        tenant: Tenant = http.state.tenant
        priority = tenant.priority(parse.priority(http, body))
        salt = tenant.cache_salt(body.cache_salt or "")
        requests = self._requests(RequestId(http.state.request_id), body, prompts, salt)
        if grammar := requests[0].sampling.grammar:
            await self.grammars.check(grammar, body.grammar_field)
        for prompt in prompts:
            self.metrics.prompt_tokens.observe(len(prompt))
        arrivals = [Arrival(request, arrived_s, index) for index, request in enumerate(requests)]
        answering = self._answering(arrivals, force, body, tenant, priority)
        if body.stream:
            counted = body.usage_on_every_chunk
            return AnswerStream(answering, form, self.gate, self.note_failure, traced=traced, counted=counted)
        content = await self.gate.until_gone(http.receive, _whole(answering, form, traced=traced))
        return Response(content, media_type=JSON)

    def _requests(
        self, request_id: RequestId, body: GeneratingBody, prompts: Sequence[tuple[int, ...]], salt: str
    ) -> list[Request]:
        """One for each choice: those of the first prompt, then those of the next."""
        self.tokenizer.check_ids(body.stop_token_ids or (), "stop_token_ids")
        self.tokenizer.check_ids(tuple(body.logit_bias or ()), "logit_bias")
        seed = self.draw_seed() if body.chosen_seed is None else body.chosen_seed
        several = len(prompts) * body.choices_per_prompt > 1
        requests: list[Request] = []
        for prompt in prompts:
            max_tokens = self._max_tokens(body.wanted_tokens, len(prompt))
            for i in range(body.choices_per_prompt):
                own_id = RequestId(f"{request_id}-{len(requests)}") if several else request_id
                sampling = body.sampling(max_tokens, choice_seed(seed, i), body.num_logprobs)
                requests.append(Request(own_id, prompt, sampling, salt))
        return requests

    @asynccontextmanager
    async def _answering(
        self,
        arrivals: Sequence[Arrival],
        force: Force | None,
        body: GeneratingBody,
        tenant: Tenant,
        priority: Priority,
    ) -> AsyncIterator[Choices]:
        """Leaving cancels whatever still runs."""
        whole = not (body.stream or body.stop_strings)
        async with AsyncExitStack() as stack:
            answers = []
            for arrival in arrivals:
                alone = len(arrivals) == 1
                begun = Generation(self.dispatcher, arrival.request, force, priority, whole=whole, alone=alone)
                generation = await stack.enter_async_context(begun)
                detokenizer = self.tokenizer.detokenizer(body.stop_strings)
                answers.append(Answer(arrival, generation, detokenizer, self.metrics, self.clock))
            choices = Choices(answers, body.choices_per_prompt)
            stack.push_async_callback(choices.close)
            stack.enter_context(
                charged(
                    tenant,
                    priority,
                    sum(arrival.request.prompt_tokens for arrival in arrivals[:: body.choices_per_prompt]),
                    sum(arrival.request.sampling.max_tokens for arrival in arrivals),
                    lambda: sum(answer.completion_tokens for answer in answers),
                    self.metrics.admission,
                )
            )
            yield choices

    async def _encode(self, prompt: str | list[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return await self.tokenizer.encode_text(prompt, self._context_tokens())
        return self.tokenizer.check_ids(prompt)

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

    def _head(self, http: HttpRequest, body: GeneratingBody) -> Head:
        logprobs = body.num_logprobs is not None
        return Head(http.state.request_id, int(self.unix_time()), self.model.name, body.include_usage, logprobs)

    def _card(self) -> ModelCard:
        return ModelCard(self.model.name, self.model.created_s)


async def _whole(answering: AbstractAsyncContextManager[Choices], form: Form, *, traced: bool) -> bytes:
    async with answering as choices:
        parts: list[list[Piece]] = [[] for _ in range(choices.count)]
        async for piece in choices:
            parts[piece.choice].append(piece)
        ending = Ending(choices.usage(), choices.traces() if traced else UNSET)
        return form.whole([_join(pieces) for pieces in parts], ending)


def _join(pieces: Sequence[Piece]) -> Piece:
    """One piece with all that the pieces of a choice have."""
    text = "".join(piece.text for piece in pieces)
    tokens = [token for piece in pieces for token in piece.tokens]
    return msgspec.structs.replace(pieces[-1], text=text, tokens=tokens)
